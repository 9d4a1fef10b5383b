"""`dispatcher worker` and `dispatcher daemon`: `run` in the background, with the commands that XNovu had.

They are for a machine without a process manager. A locked pid file names the process; no process is searched by name.
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dispatcher.cli.filter_options import AsJson
from dispatcher.cli.options import EnvFile
from dispatcher.cli.run import RunRole

if TYPE_CHECKING:
    from dispatcher.cli.pidfile import PidFile

PidPath = Annotated[
    Path | None,
    typer.Option("--pid-file", help="Replaces worker.pid in ~/.local/state/dispatcher.", show_default=False),
]
LogPath = Annotated[
    Path | None, typer.Option("--log-file", help="Replaces the .log file beside the pid file.", show_default=False)
]
HealthPort = Annotated[
    int | None,
    typer.Option(
        "--health-port", "--port", help="Replaces DISPATCHER_HTTP_PORT.", min=0, max=65_535, show_default=False
    ),
]
LogLevel = Annotated[str | None, typer.Option("--log-level", help="Replaces DISPATCHER_LOG_LEVEL.", show_default=False)]
Enterprises = Annotated[
    str | None, typer.Option("--enterprises", help="Replaces DISPATCHER_ENTERPRISE_IDS.", show_default=False)
]
Foreground = Annotated[bool, typer.Option("--foreground", help="Run and log in this terminal, not in the background.")]
Force = Annotated[
    bool, typer.Option("--force", help="Kill the process at once. Its rows then wait until their lease has run out.")
]

app = typer.Typer(no_args_is_help=True, help="Run the dispatcher in the background: start, status, stop.")


@app.command()
def start(  # noqa: PLR0917  (Typer's)
    health_port: HealthPort = None,
    log_level: LogLevel = None,
    enterprises: Enterprises = None,
    role: RunRole = "all",
    foreground: Foreground = False,
    pid_file: PidPath = None,
    log_file: LogPath = None,
    env_file: EnvFile = Path(".env"),
    as_json: AsJson = False,
) -> None:
    """Start `dispatcher run` in the background and wait up to 30 s until it is ready.

    If it exits first, this command exits with its exit code: 1, 2 or 3.
    """
    from dispatcher.cli.output import print_cells, print_json
    from dispatcher.cli.worker_process import health_port_address, log_size, page_is_ok, wait_started
    from dispatcher.models.errors import ConfigurationError

    environment = {**os.environ, **settings_from(health_port, log_level, enterprises)}
    command = [sys.executable, "-m", "dispatcher", "run", "--role", role, "--env-file", str(env_file)]
    file = pid_file_at(pid_file)
    file.require_not_running()
    log = log_file or file.path.with_suffix(".log")
    host, port = health_port_address(env_file, health_port)
    if page_is_ok(host, port):
        raise ConfigurationError(f"another process answers at {host}:{port} already: choose another --health-port")
    if foreground:
        file.exec_as(command, environment)
    logged = log_size(log)
    process = file.spawn(command, environment, log)
    ready = wait_started(process, host, port, log, logged)
    if as_json:
        print_json({"pid": process.pid, "ready": ready, "pid_file": str(file.path), "log_file": str(log)})
    else:
        print_cells(f"started as process {process.pid}" + ("" if ready else "; it is not ready yet"))
        print_cells(f"log: {log}")


@app.command()
def stop(force: Force = False, pid_file: PidPath = None, as_json: AsJson = False) -> None:
    """Stop the background process, which finishes or releases its rows. Exit code 1 if it still runs after 30 s."""
    from dispatcher.cli.output import print_cells, print_json
    from dispatcher.cli.worker_process import stop_process

    file = pid_file_at(pid_file)
    pid = file.pid()
    seconds = None if pid is None else stop_process(file, pid, force=force)
    if as_json:
        print_json({"pid": pid, "killed": force and pid is not None, "seconds": seconds})
    elif pid is None:
        print_cells(f"not running: {file.path} names no running process")
    else:
        print_cells(f"process {pid} {'was killed' if force else 'stopped'} after {seconds} s")


@app.command()
def restart(  # noqa: PLR0917  (Typer's)
    health_port: HealthPort = None,
    log_level: LogLevel = None,
    enterprises: Enterprises = None,
    role: RunRole = "all",
    force: Force = False,
    pid_file: PidPath = None,
    log_file: LogPath = None,
    env_file: EnvFile = Path(".env"),
    as_json: AsJson = False,
) -> None:
    """Stop the background process if it runs, then start it with the options of this command."""
    from dispatcher.cli.worker_process import stop_process

    file = pid_file_at(pid_file)
    if (pid := file.pid()) is not None:
        stop_process(file, pid, force=force)
    start(health_port, log_level, enterprises, role, False, pid_file, log_file, env_file, as_json)


@app.command()
def status(
    health_port: HealthPort = None,
    pid_file: PidPath = None,
    env_file: EnvFile = Path(".env"),
    as_json: AsJson = False,
) -> None:
    """Show whether the process runs, and the answer of its health port. Exit code 1 if the port does not answer."""
    from dispatcher.cli.output import print_json, print_pairs
    from dispatcher.cli.worker_process import fetch_page, parse_document
    from dispatcher.models.errors import CheckFailed, Unreachable

    file = pid_file_at(pid_file)
    pid = file.pid()
    health: dict[str, Any] = {}
    problem = ""
    try:
        code, text = fetch_page("/health", env_file, health_port)
        health = parse_document("/health", text)
        problem = "" if code == 200 else f"/health answers HTTP {code}"
    except (CheckFailed, Unreachable) as error:
        problem = str(error)
    report = {"running": pid is not None, "pid": pid, "pid_file": str(file.path), "health": health or None}
    if as_json:
        print_json(report)
    else:
        process = f"{pid}, running" if pid else "not running, according to the pid file"
        print_pairs([("process", process), ("pid file", file.path), *health.items()])
    if problem:
        raise CheckFailed(problem)


@app.command()
def health(health_port: HealthPort = None, env_file: EnvFile = Path(".env"), as_json: AsJson = False) -> None:
    """Show every health page. Exit code 0 if everything works, 1 if not, 3 if the port does not answer."""
    from dispatcher.cli.output import print_cells, print_json
    from dispatcher.cli.worker_process import PAGES, fetch_page, parse_document
    from dispatcher.models.errors import CheckFailed

    answers = {page: fetch_page(page, env_file, health_port) for page in PAGES}
    documents = {page: parse_document(page, text) for page, (_, text) in answers.items()}
    if as_json:
        print_json(documents)
    else:
        for page, (code, text) in answers.items():
            print_cells(page, code, text)
    code, text = answers["/readyz"]
    if code != 200:
        raise CheckFailed(f"not ready: {text}")


def settings_from(health_port: int | None, log_level: str | None, enterprises: str | None) -> dict[str, str]:
    """Return the settings that the options of `start` replace, as environment variables."""
    given = {
        "DISPATCHER_HTTP_PORT": None if health_port is None else str(health_port),
        "DISPATCHER_LOG_LEVEL": log_level,
        "DISPATCHER_ENTERPRISE_IDS": enterprises,
    }
    return {name: value for name, value in given.items() if value is not None}


def pid_file_at(path: Path | None) -> "PidFile":
    """Return the pid file at this path, or at the default path.

    The default is not in the user's runtime directory, which is deleted at logout while the process goes on.
    """
    from dispatcher.cli.pidfile import PidFile

    state = os.environ.get("XDG_STATE_HOME", "")
    folder = Path(state) if Path(state).is_absolute() else Path("~/.local/state").expanduser()
    return PidFile(path or folder / "dispatcher" / "worker.pid")
