"""`dispatcher db`: data on stdout, messages on stderr, exit codes."""

import json
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from typer.testing import CliRunner, Result

from dispatcher.cli.db import app
from dispatcher.install import render, render_grants
from dispatcher.models.errors import DispatcherError
from tests.install.live_database import Database

Command = Callable[..., Result]


@pytest.fixture
def command(empty_database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """Run `dispatcher db …` against the test's database; an error of ours has the exit code that `__main__` gives."""
    monkeypatch.chdir(tmp_path)  # a .env file of the user who runs the tests must not be read
    monkeypatch.setenv("DATABASE_URL", empty_database.url)
    for other in ("DISPATCHER_OUTBOX", "DISPATCHER_LISTEN_DATABASE_URL"):
        monkeypatch.delenv(other, raising=False)

    def run(*arguments: str, answer: str | None = None) -> Result:
        result = CliRunner().invoke(app, arguments, input=answer)
        if isinstance(result.exception, DispatcherError):
            result.exit_code = result.exception.exit_code
        elif result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


def test_install_status_upgrade_and_uninstall_work_in_order(command: Command, empty_database: Database) -> None:
    assert command("status").exit_code == 2
    assert command("install").exit_code == 2
    first = command("install", "--dev-schema")
    assert (first.exit_code, first.stdout) == (0, "")
    assert "created XNovu's schema" in first.stderr
    assert "repaired: schema dispatcher: missing" in first.stderr
    status = json.loads(command("status", "--json").stdout)
    assert (status["ok"], status["differences"]) == (True, [])
    sizes = status["bytes"]
    assert list(sizes) == ["dispatcher.delivery", "dispatcher.recipient", "notify.ent_notification"]
    assert min(sizes.values()) > 0
    verified = command("verify", "--json")
    assert verified.exit_code == 0
    assert json.loads(verified.stdout)["doorbell_ms"] > 0
    assert "nothing to do" in command("upgrade").stderr

    anyio.run(empty_database.run, "alter table notify.ent_notification disable trigger dispatcher_insert")
    drifted = command("status")
    assert (drifted.exit_code, drifted.stdout) == (1, "trigger dispatcher_insert: disabled\n")
    assert command("verify").exit_code == 1
    planned = command("upgrade", "--dry-run")
    assert planned.exit_code == 0
    assert planned.stdout.startswith("begin;")
    assert command("status").exit_code == 1
    repaired = json.loads(command("upgrade", "--json").stdout)
    assert [each["name"] for each in repaired["changed"]] == ["dispatcher_insert"]

    assert command("uninstall", answer="n\n").exit_code == 1
    assert command("status").exit_code == 0
    assert command("uninstall", "--yes", "--ledger").exit_code == 0
    gone = command("verify", "--json")
    assert gone.exit_code == 1
    assert json.loads(gone.stdout)["doorbell_ms"] is None


def test_upgrade_of_a_newer_database_succeeds(command: Command, empty_database: Database) -> None:
    command("install", "--dev-schema")
    anyio.run(empty_database.run, "insert into dispatcher.migration (name, checksum) values ('999.sql', 'x')")
    upgraded = command("upgrade")
    assert upgraded.exit_code == 0
    assert "warning: a newer version" in upgraded.stderr
    assert command("status").exit_code == 1
    assert command("upgrade", "--dry-run").stdout == ""


def test_upgrade_fails_for_unrepairable_differences(command: Command, empty_database: Database) -> None:
    command("install", "--dev-schema")
    anyio.run(empty_database.run, "alter table dispatcher.delivery drop column last_error")
    failed = command("upgrade")
    assert failed.exit_code == 1
    assert "still differs: column dispatcher.delivery.last_error: missing" in failed.stderr


def test_db_sql_prints_the_rendered_text_without_a_database(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL")
    shown = command("sql")
    assert (shown.exit_code, shown.stdout, shown.stderr) == (0, render("install"), "")
    assert "create index concurrently" not in command("sql", "install", "--part", "transaction").stdout
    assert "concurrently" not in command("sql", "--no-index").stdout
    assert command("sql", "instal").exit_code == 2
    monkeypatch.setenv("DISPATCHER_OUTBOX", "other.place")
    assert '"other"."place"' in command("sql", "uninstall").stdout


def test_db_sql_grants_needs_a_role_and_no_database(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL")
    shown = command("sql", "grants", "--role", 'ru"n', "--outbox", "other.place")
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert shown.stdout == render_grants("other.place", 'ru"n')
    assert 'grant select ("id", "publish_status"' in shown.stdout
    assert 'on "other"."place" to "ru""n";' in shown.stdout
    assert command("sql", "grants").exit_code == 2
    assert command("sql", "grants", "--role", "r" * 64).exit_code == 2


def test_options_beat_the_environment(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://postgres@127.0.0.1:1/none")
    assert command("status").exit_code == 3
    monkeypatch.setenv("DISPATCHER_OUTBOX", "other.place")
    assert '"a"."b"' in command("sql", "--outbox", "a.b").stdout


def test_missing_url_names_the_setting(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL")
    result = command("status")
    assert result.exit_code == 2
    assert "DATABASE_URL is not set" in str(result.exception)


@pytest.mark.parametrize("wrong", ["3", "0s", "soon"])
def test_malformed_lock_timeout_is_refused(command: Command, wrong: str) -> None:
    assert command("upgrade", "--lock-timeout", wrong).exit_code == 2


def test_wait_exits_3_when_it_gives_up(command: Command) -> None:
    assert json.loads(command("wait", "--json").stdout) == {"reachable": True}
    nobody = "postgres://postgres@127.0.0.1:1/none"
    assert command("wait", "--database-url", nobody, "--timeout", "200ms").exit_code == 3


def test_f185_after_restore_makes_due_rows_looked_up(command: Command, empty_database: Database) -> None:
    refused = command("after-restore")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "dispatcher db upgrade" in str(refused.exception)
    command("install", "--dev-schema")
    said = command("after-restore", "--json")
    assert said.exit_code == 0
    at = json.loads(said.stdout)["restored_at"]
    assert at.endswith("Z")
    assert f"due before {at} are looked up" in said.stderr
    stored = "select restored_at between clock_timestamp() - interval '1 minute' and clock_timestamp()"
    assert anyio.run(empty_database.run, f"{stored} from dispatcher.installation") == [(True,)]
