"""`dispatcher worker` and `dispatcher daemon`: `run` in the background, as XNovu's users know it.

For a machine without a process manager. Which process it is stands in a pid file that is locked by that process itself;
no process is ever looked for by its name.
"""

import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dispatcher.cli.options import EnvFile
from dispatcher.cli.row_filters import AsJson
from dispatcher.cli.run import RunRole

if TYPE_CHECKING:
    from subprocess import Popen

    from dispatcher.cli.pidfile import PidFile

START_SECONDS, STOP_SECONDS = 30.0, 30.0
PROGRESS_SECONDS = 5.0
POLL_SECONDS = 0.1
HTTP_TIMEOUT_SECONDS = 5.0
OPEN_PAGES = ("/health", "/readyz")
PAGES = (*OPEN_PAGES, "/health/subscriptions", "/health/detailed")
LOG_TAIL_BYTES = 2000

PidPath = Annotated[
    Path | None,
    typer.Option("--pid-file", help="Instead of worker.pid in ~/.local/state/dispatcher.", show_default=False),
]
LogPath = Annotated[
    Path | None, typer.Option("--log-file", help="Instead of a .log beside the pid file.", show_default=False)
]
HealthPort = Annotated[
    int | None,
    typer.Option(
        "--health-port", "--port", help="Instead of DISPATCHER_HTTP_PORT.", min=0, max=65_535, show_default=False
    ),
]
LogLevel = Annotated[
    str | None, typer.Option("--log-level", help="Instead of DISPATCHER_LOG_LEVEL.", show_default=False)
]
Enterprises = Annotated[
    str | None, typer.Option("--enterprises", help="Instead of DISPATCHER_ENTERPRISE_IDS.", show_default=False)
]
Foreground = Annotated[bool, typer.Option("--foreground", help="Stay here, and log here, until it ends.")]
Force = Annotated[bool, typer.Option("--force", help="Kill it at once. What it held waits for its lease to run out.")]

app = typer.Typer(no_args_is_help=True, help="Run it in the background: start, look, stop.")


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
    """Start `dispatcher run` in the background, and wait until it stands: 1, 2 or 3 when it ends instead."""
    from dispatcher.cli.output import print_cells, print_json
    from dispatcher.models.errors import ConfigurationError

    given = {
        "DISPATCHER_HTTP_PORT": None if health_port is None else str(health_port),
        "DISPATCHER_LOG_LEVEL": log_level,
        "DISPATCHER_ENTERPRISE_IDS": enterprises,
    }
    environment = {**os.environ, **{name: value for name, value in given.items() if value is not None}}
    command = [sys.executable, "-m", "dispatcher", "run", "--role", role, "--env-file", str(env_file)]
    file = pid_file_at(pid_file)
    file.require_not_running()
    log = log_file or file.path.with_suffix(".log")
    host, port = health_port_address(env_file, health_port)
    if page_is_ok(host, port):
        raise ConfigurationError(f"something answers at {host}:{port} already: choose another --health-port")
    if foreground:
        file.exec_as(command, environment)
    logged = log_size(log)
    process = file.spawn(command, environment, log)
    ready = wait_started(process, host, port, log, logged)
    if as_json:
        print_json({"pid": process.pid, "ready": ready, "pid_file": str(file.path), "log_file": str(log)})
    else:
        print_cells(f"started as process {process.pid}" + ("" if ready else "; it does not say yet that it stands"))
        print_cells(f"log: {log}")


@app.command()
def stop(force: Force = False, pid_file: PidPath = None, as_json: AsJson = False) -> None:
    """Stop it: what runs is finished or handed back. Waits 30 s at most; 1 when it still runs then."""
    from dispatcher.cli.output import print_cells, print_json

    file = pid_file_at(pid_file)
    pid = file.pid()
    seconds = None if pid is None else stop_process(file, pid, force=force)
    if as_json:
        print_json({"pid": pid, "killed": force and pid is not None, "seconds": seconds})
    elif pid is None:
        print_cells(f"not running: {file.path} names no living process")
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
    """Stop it, if it runs, and start it. Options count as they are given now."""
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
    """Say whether it runs and how it is, as its health port says: 0 when it answers, 1 when not."""
    from dispatcher.cli.output import print_json, print_pairs
    from dispatcher.models.errors import CheckFailed, Unreachable

    file = pid_file_at(pid_file)
    pid = file.pid()
    health: dict[str, Any] = {}
    wrong = ""
    try:
        code, text = fetch_page("/health", env_file, health_port)
        health = parse_document("/health", text)
        wrong = "" if code == 200 else f"it answers HTTP {code}"
    except (CheckFailed, Unreachable) as error:
        wrong = str(error)
    found = {"running": pid is not None, "pid": pid, "pid_file": str(file.path), "health": health or None}
    if as_json:
        print_json(found)
    else:
        started = "running" if pid is not None else "not running, as far as the pid file says"
        print_pairs([("process", f"{pid}, {started}" if pid else started), ("pid file", file.path), *health.items()])
    if wrong:
        raise CheckFailed(wrong)


@app.command()
def health(health_port: HealthPort = None, env_file: EnvFile = Path(".env"), as_json: AsJson = False) -> None:
    """Ask its health port all it knows: 0 when everything works, 1 when not, 3 when nobody answers."""
    from dispatcher.cli.output import print_cells, print_json
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


def pid_file_at(path: Path | None) -> "PidFile":
    """Return the pid file. Not in the runtime directory, which can go when its user logs out, and the process stays."""
    from dispatcher.cli.pidfile import PidFile

    state = os.environ.get("XDG_STATE_HOME", "")
    folder = Path(state) if Path(state).is_absolute() else Path("~/.local/state").expanduser()
    return PidFile(path or folder / "dispatcher" / "worker.pid")


def health_port_address(env_file: Path, port: int | None) -> tuple[str, int]:
    """Return where the health port is."""
    from dispatcher.cli.options import health_address

    host, configured = health_address(env_file)
    return host, configured if port is None else port


def fetch_page(page: str, env_file: Path, port: int | None) -> tuple[int, str]:
    """Return what the health port answers, status and text. The token goes only to the pages that need it."""
    from dispatcher.cli.options import fetch, setting

    token = None if page in OPEN_PAGES else setting("DISPATCHER_HTTP_TOKEN", env_file)
    return fetch(*health_port_address(env_file, port), page, HTTP_TIMEOUT_SECONDS, token)


def parse_document(page: str, text: str) -> dict[str, Any]:
    """Return the object that a page says; CheckFailed when somebody else answers there."""
    import json

    from dispatcher.models.errors import CheckFailed

    with suppress(ValueError):
        if isinstance(told := json.loads(text), dict):
            return told
    raise CheckFailed(f"{page}: that is no answer of a dispatcher. Is something else at its port?")


def page_is_ok(host: str, port: int, page: str = "/livez") -> bool:
    """Return whether the health port says yes."""
    from dispatcher.cli.options import fetch
    from dispatcher.models.errors import Unreachable

    try:
        return port != 0 and fetch(host, port, page, HTTP_TIMEOUT_SECONDS)[0] == 200
    except Unreachable:
        return False


def log_size(log: Path) -> int:
    """Return how much is logged already, in bytes."""
    return log.stat().st_size if log.exists() else 0


def wait_started(process: "Popen[bytes]", host: str, port: int, log: Path, logged: int) -> bool:
    """Wait until every part of it has said how it is, and return whether that was in time.

    Raises its error when it ended, with the last line of the log after the first `logged` bytes.
    """
    from dispatcher.models.errors import CheckFailed, ConfigurationError, Unreachable

    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None:
        if page_is_ok(host, port, "/startupz"):
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    lines = log.read_bytes()[logged:].decode(errors="replace")[-LOG_TAIL_BYTES:].strip().splitlines()
    kind = {2: ConfigurationError, 3: Unreachable}.get(process.returncode, CheckFailed)
    raise kind(f"it ended with exit code {process.returncode}: {lines[-1] if lines else ''} (log: {log})")


def stop_process(file: "PidFile", pid: int, *, force: bool) -> float:
    """End the process and return how many seconds that took; CheckFailed when it takes too long."""
    import signal

    from dispatcher.cli.output import say
    from dispatcher.models.errors import CheckFailed

    began = told = time.monotonic()
    try:
        os.kill(pid, signal.SIGKILL if force else signal.SIGTERM)
    except ProcessLookupError:
        pass  # it ended just now
    except PermissionError:
        raise CheckFailed(f"process {pid} belongs to somebody else: stop it as its user, or as root") from None
    while file.pid() == pid:
        now = time.monotonic()
        if now - began > STOP_SECONDS:
            raise CheckFailed(f"process {pid} still runs after {STOP_SECONDS:g} s: dispatcher worker stop --force")
        if now - told > PROGRESS_SECONDS:
            told = now
            say(f"process {pid} finishes what it has in work, {now - began:.0f} s so far")
        time.sleep(POLL_SECONDS)
    return round(time.monotonic() - began, 1)
