"""The command line as real processes: stdout, stderr and exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dispatcher.config.loading import load
from dispatcher.config.settings import Settings, variable_names
from tests.support.commands import run_dispatcher

SECRET = "hunter2hunter2"
SET = {
    "DATABASE_URL": f"postgres://app:{SECRET}@db.example.com:5432/shop?password={SECRET}",
    "DISPATCHER_LISTEN_DATABASE_URL": f"host=h password={SECRET}",
    "NOVU_SECRET_KEY": SECRET,
    "TEMPORAL_API_KEY": SECRET,
    "TEMPORAL_TLS_CLIENT_KEY_DATA": SECRET,
    "TEMPORAL_GRPC_META_AUTHORIZATION": SECRET,
    "POLL_INTERVAL_MS": "1500",
    "SUBSCRIPTION_MAX_RETRIES": "10",
}


def run(folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return run_dispatcher(*arguments, cwd=folder, timeout=30, environment={"COLUMNS": "100", **environ})


def test_help_names_the_commands(tmp_path: Path) -> None:
    done = run(tmp_path, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    for command in (
        "run",
        "status",
        "list",
        "show",
        "tail",
        "retry",
        "retract",
        "send-test",
        "sweep",
        "dev",
        "demo",
        "db",
    ):
        assert command in done.stdout


def test_help_loads_nothing_heavy() -> None:
    program = "import sys, dispatcher.cli; print(*sorted(sys.modules), sep='\\n')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    heavy = {
        "temporalio",
        "novu_py",
        "psycopg",
        "psycopg_pool",
        "starlette",
        "uvicorn",
        "httpx",
        "pydantic",
        "structlog",
    }
    assert "dispatcher.cli" in loaded
    assert not heavy & loaded


@pytest.mark.parametrize("command", ["status", "list"])
def test_database_commands_load_only_the_database_client(tmp_path: Path, command: str) -> None:
    """`-X importtime` names every module on stderr as it is loaded."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "dispatcher", command],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "DATABASE_URL": "postgres://nobody@127.0.0.1:1/none"},
        capture_output=True,
        text=True,
        check=False,
    )
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert (done.returncode, "psycopg" in loaded) == (3, True)
    heavy = {"temporalio", "novu_py", "httpx", "pydantic_settings", "starlette", "uvicorn", "prometheus_client"}
    assert not heavy & loaded


def test_interrupted_command_exits_130() -> None:
    program = """if True:
        import sys
        import dispatcher.cli
        from dispatcher.__main__ import main

        @dispatcher.cli.app.command("interrupted")
        def interrupted() -> None:
            raise KeyboardInterrupt

        sys.argv = ["dispatcher", "interrupted"]
        main()
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (130, b"")


@pytest.mark.parametrize("arguments", [[], ["nope"], ["config", "nope"], ["version", "--nope"]])
def test_wrong_usage_exits_2_with_an_error_or_help_on_stderr(tmp_path: Path, arguments: list[str]) -> None:
    done = run(tmp_path, *arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert not (arguments and done.stdout)


def test_version_is_text_or_json(tmp_path: Path) -> None:
    assert run(tmp_path, "version").stdout.startswith("dispatcher 0.")
    assert run(tmp_path, "--version").stdout == run(tmp_path, "version").stdout
    assert {"dispatcher", "python", "temporalio"} <= set(json.loads(run(tmp_path, "version", "--json").stdout))


@pytest.mark.parametrize("flags", [[], ["--origin"], ["--json"], ["--origin", "--json"]])
def test_config_show_never_prints_a_secret(tmp_path: Path, flags: list[str]) -> None:
    done = run(tmp_path, "config", "show", *flags, **SET)
    assert (done.returncode, done.stderr) == (0, "")
    assert SECRET not in done.stdout
    assert "postgres://app:***@db.example.com:5432/shop" in done.stdout


def test_config_show_says_where_values_came_from(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("DISPATCHER_LEASE=30s\n")
    shown = json.loads(run(tmp_path, "config", "show", "--origin", "--json", **SET).stdout)
    assert shown["DISPATCHER_LEASE"] == {"value": "30s", "source": ".env"}
    assert shown["DISPATCHER_SWEEP_INTERVAL"] == {"value": "1s500ms", "source": "environment as POLL_INTERVAL_MS"}
    assert "accepted, not used" in shown["SUBSCRIPTION_MAX_RETRIES"]["source"]
    assert shown["event_loop"] == {"value": "uvloop", "source": "package uvloop"}


def test_wrong_setting_is_one_line_on_stderr_and_exit_2(tmp_path: Path) -> None:
    done = run(tmp_path, "config", "show", DATABASE_URL=f"mysql://:{SECRET}@h")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("dispatcher: DATABASE_URL is not a Postgres URL")
    assert done.stderr.count("\n") == 1
    assert SECRET not in done.stderr


def test_example_file_has_every_variable_and_its_default(tmp_path: Path) -> None:
    example = run(tmp_path, "config", "env-example").stdout
    for field, about in Settings.model_fields.items():
        assert f"# {about.description}\n" in example
        for name in variable_names(field):
            assert name in example
    filled = tmp_path / "filled.env"
    filled.write_text(example)
    assert load(filled, {}).model_dump(exclude={"database_url"}) == load(
        None, {"DATABASE_URL": "postgres:///x"}
    ).model_dump(exclude={"database_url"})
    uncommented = "\n".join(line.removeprefix("#") for line in example.splitlines() if not line.startswith("# "))
    filled.write_text(uncommented)
    assert load(filled, {}).lease == Settings.model_fields["lease"].default
