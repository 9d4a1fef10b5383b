"""The operator's commands as a person meets them: real processes, their two streams, a terminal, their exit codes."""

import asyncio
import json
import os
import pty
import re
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from dispatcher.models.notification import RecipientState
from tests.support.commands import run_dispatcher
from tests.support.outbox_fixture import OutboxFixture, calls_of
from tests.support.waits import eventually

HOSTILE = "\x1b[31mred\x1b]0;owned\x07 [bold]loud[/bold] [link=http://x]here[/link]\r\n\u202etab\there \u009b31m"
ESCAPED = r"\x1b[31mred\x1b]0;owned\x07 [bold]loud[/bold]"
WILD = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e]")
Done = subprocess.CompletedProcess[str]


def command(outbox_fixture: OutboxFixture, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """Return the program, and the environment that leads to the books."""
    return [sys.executable, "-m", "dispatcher", *arguments], {"PATH": os.environ["PATH"], **usual(outbox_fixture)}


def usual(outbox_fixture: OutboxFixture) -> dict[str, str]:
    return {"DATABASE_URL": outbox_fixture.url, "COLUMNS": "160", "TERM": "xterm"}


def run(outbox_fixture: OutboxFixture, *arguments: str, **environment: str) -> Done:
    """Run a command with nobody at a terminal."""
    settings = usual(outbox_fixture) | environment
    return run_dispatcher(*arguments, cwd=Path("/"), timeout=60, environment=settings)


def at_terminal(outbox_fixture: OutboxFixture, *arguments: str, types: str = "") -> tuple[int, str]:
    """Run a command on a terminal where somebody types an answer once asked; return its exit code and the screen."""
    program, environment = command(outbox_fixture, *arguments)
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(program[0], program, environment)
    screen = b""
    while True:
        if types and b"[y/N]" in screen:
            os.write(terminal, types.encode())
            types = ""
        try:
            read = os.read(terminal, 65536)
        except OSError:
            read = b""
        if not read:
            break
        screen += read
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), screen.decode()


def start(outbox_fixture: OutboxFixture, folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a command that writes into a folder."""
    program, environment = command(outbox_fixture, *arguments)
    with (folder / "out").open("wb") as out, (folder / "words").open("wb") as words:
        return subprocess.Popen(program, env=environment, stdout=out, stderr=words, cwd="/")


def lines(done: Done) -> list[Any]:
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


async def hostile(outbox_fixture: OutboxFixture) -> int:
    """Write a row that tries everything on whoever lists it."""
    await outbox_fixture.rows(
        "insert into notify.ent_notification_workflow (name, workflow_key, workflow_type, publish_status)"
        " values ('x', %s, 'STATIC', 'PUBLISH')",
        HOSTILE,
    )
    return await outbox_fixture.notify(
        name=HOSTILE,
        notification_workflow_id=await outbox_fixture.workflow(HOSTILE),
        notification_status="FAILED",
        error_details=json.dumps({"error": HOSTILE}),
    )


async def failed(outbox_fixture: OutboxFixture, wait: timedelta | None = None, **columns: Any) -> int:
    row = await outbox_fixture.acquired(**columns)
    await outbox_fixture.settle(row, RecipientState.REFUSED, wait)
    return row.id


class TestReadCommands:
    async def test_list_prints_one_line_per_row_and_the_same_as_json(self, outbox_fixture: OutboxFixture):
        ids = [await failed(outbox_fixture), await outbox_fixture.notify(scheduled_for="2999-01-01")]
        done = run(outbox_fixture, "list")
        assert (done.returncode, done.stderr) == (0, "")
        first, second = (line.split("\t") for line in done.stdout.splitlines())
        assert (first[0], first[1], first[5]) == (str(ids[1]), "PENDING", "at 2999-01-01 00:00:00")
        assert (second[0], second[1], second[3], second[5]) == (str(ids[0]), "FAILED", "default-in-app", "dead letter")
        assert "HTTP 503" in second[6]
        assert [row["id"] for row in lines(run(outbox_fixture, "list", "--json"))] == ids[::-1]
        assert [row["id"] for row in lines(run(outbox_fixture, "list", "--json", "-s", "failed,partial"))] == [ids[0]]
        assert [row["id"] for row in lines(run(outbox_fixture, "list", "--json", "-n", "1"))] == [ids[1]]

    async def test_list_reads_all_pages(self, outbox_fixture: OutboxFixture):
        ids = await outbox_fixture.many(1203)
        assert [row["id"] for row in lines(run(outbox_fixture, "list", "--json", "--all"))] == sorted(ids, reverse=True)
        assert len(lines(run(outbox_fixture, "list", "--json", "-n", "700"))) == 700

    @pytest.mark.parametrize("arguments", [("list",), ("show",), ("list", "--json"), ("show", "--json")])
    async def test_control_characters_of_a_row_are_escaped(
        self, outbox_fixture: OutboxFixture, arguments: tuple[str, ...]
    ):
        row = await hostile(outbox_fixture)
        named = [*arguments, str(row)] if arguments[0] == "show" else list(arguments)
        done = run(outbox_fixture, *named)
        assert done.returncode == 0, done.stderr
        assert not WILD.search(done.stdout + done.stderr)
        if "--json" not in arguments:
            assert ESCAPED in done.stdout
        code, screen = at_terminal(outbox_fixture, *named)
        assert code == 0
        assert "[bold]" in screen, "markup is text"
        assert "\x1b[31m" not in screen
        assert not re.search(r"\x1b\]|[\x07\x80-\x9f\u202e]", screen)

    async def test_list_prints_a_table_on_a_terminal(self, outbox_fixture: OutboxFixture):
        row = await failed(outbox_fixture)
        code, screen = at_terminal(outbox_fixture, "list")
        assert code == 0
        assert "Novu workflow" in screen
        assert re.search(rf"{row} +FAILED +20", screen)

    async def test_show_prints_the_row_and_its_recipients(self, outbox_fixture: OutboxFixture):
        held = await outbox_fixture.acquired()
        await outbox_fixture.outbox.record_calls(calls_of(held))
        shown = json.loads(run(outbox_fixture, "show", str(held.id), "--json").stdout)
        assert shown["next"].startswith("here is working on it")
        assert shown["temporal_workflow_id"].startswith(f"notification-{held.id}-")
        assert [each["state"] for each in shown["ledger"]] == ["sending"]
        done = run(outbox_fixture, "show", str(held.id))
        assert re.search("^next +here is working on it; its lease runs until ", done.stdout, re.MULTILINE)
        assert re.search(rf"^  {held.recipients[0].id}\t1\tsending\t1\t20", done.stdout, re.MULTILINE)

    async def test_status_counts_rows_and_names_nodes(self, outbox_fixture: OutboxFixture):
        await failed(outbox_fixture)
        await outbox_fixture.notify()
        found = json.loads(run(outbox_fixture, "status", "--json").stdout)
        assert (found["counts"], found["due"], found["nodes"]) == ({"FAILED": 1, "PENDING": 1}, 1, [])
        done = run(outbox_fixture, "status")
        assert "no dispatcher is running" in done.stderr
        await outbox_fixture.outbox.heartbeat(role="all", host="h", version=HOSTILE, mode="EVENT")
        await outbox_fixture.rows("drop trigger dispatcher_update on notify.ent_notification")
        done = run(outbox_fixture, "status")
        assert re.search(r"^FAILED +1$", done.stdout, re.MULTILINE)
        assert re.search(r"^dispatcher_update +MISSING$", done.stdout, re.MULTILINE)
        assert re.search(r"^node +here .*EVENT, .*0 in work", done.stdout, re.MULTILINE)
        assert "dispatcher db upgrade" in done.stderr
        assert "no dispatcher is running" not in done.stderr
        assert not WILD.search(done.stdout)

    async def test_tail_follows_until_it_is_interrupted(self, outbox_fixture: OutboxFixture, tmp_path: Path):
        process = start(outbox_fixture, tmp_path, "tail", "--json")
        try:
            await eventually(lambda: "following" in (tmp_path / "words").read_text(), "following", 60)
            row = await outbox_fixture.acquired()
            await eventually(lambda: "PROCESSING" in (tmp_path / "out").read_text(), "PROCESSING", 60)
            await outbox_fixture.settle(row, RecipientState.ACCEPTED)
            await eventually(lambda: "SENT" in (tmp_path / "out").read_text(), "SENT", 60)
        finally:
            process.send_signal(signal.SIGINT)
            code = process.wait(60)
        told = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
        assert [(each["id"], each["status"]) for each in told][-1] == (row.id, "SENT")
        assert (code, (tmp_path / "words").read_text().count("\n")) == (130, 1), "no traceback"


class TestChangeCommands:
    async def test_change_without_a_terminal_needs_yes(self, outbox_fixture: OutboxFixture):
        row = await failed(outbox_fixture)
        done = run(outbox_fixture, "retry", str(row))
        assert done.returncode == 2
        assert "add --yes" in done.stderr
        assert await outbox_fixture.status(row) == "FAILED"
        done = run(outbox_fixture, "retry", str(row), "--yes", "--json")
        assert done.returncode == 0
        assert json.loads(done.stdout) == {"action": "retry", "dry_run": False, "changed": [row], "left_alone": {}}
        assert await outbox_fixture.status(row) == "PENDING"

    async def test_change_on_a_terminal_asks(self, outbox_fixture: OutboxFixture):
        row = await failed(outbox_fixture)
        code, screen = at_terminal(outbox_fixture, "retry", str(row), types="n\n")
        assert (code, "Retry 1?" in screen) == (1, True)
        code, screen = at_terminal(outbox_fixture, "retry", str(row), types="\x03")
        assert code == 130, screen
        assert await outbox_fixture.status(row) == "FAILED"
        code, screen = at_terminal(outbox_fixture, "retry", str(row), types="y\n")
        assert code == 0, screen
        assert await outbox_fixture.status(row) == "PENDING"

    async def test_dry_run_prints_the_same_and_changes_nothing(self, outbox_fixture: OutboxFixture):
        row = await outbox_fixture.acquired(recipients=[uuid4(), uuid4()])
        await outbox_fixture.settle(row, RecipientState.ACCEPTED)
        before = await outbox_fixture.snapshot()
        done = run(outbox_fixture, "retry", "--status", "SENT", "--dry-run")
        assert done.returncode == 0
        assert "1 notifications become PENDING (1 SENT)" in done.stderr
        assert "2 of those recipients were accepted by Novu before and GET IT AGAIN" in done.stderr
        assert (
            "2 recipients are cancelled at Novu"
            in run(outbox_fixture, "retract", "--status", "SENT", "--dry-run").stderr
        )
        assert await outbox_fixture.snapshot() == before
        assert await outbox_fixture.rows("select from dispatcher.action") == []

    async def test_filters_alone_never_change_delivered_rows(self, outbox_fixture: OutboxFixture):
        row = await outbox_fixture.acquired()
        await outbox_fixture.settle(row, RecipientState.ACCEPTED)
        waiting, dead = await outbox_fixture.notify(), await failed(outbox_fixture)
        assert run(outbox_fixture, "retry", "--since", "1h", "--yes").returncode == 0
        assert await outbox_fixture.status(dead) == "PENDING"
        assert run(outbox_fixture, "retract", "--since", "1h", "--yes", "--reason", "wrong").returncode == 0
        assert [await outbox_fixture.status(each) for each in (row.id, waiting, dead)] == [
            "SENT",
            "RETRACTED",
            "RETRACTED",
        ]
        reasons = await outbox_fixture.rows(
            "select distinct retraction_reason from notify.ent_notification where id <> %s", row.id
        )
        assert reasons == [("wrong",)]

    async def test_impossible_change_is_refused_with_a_remedy(self, outbox_fixture: OutboxFixture):
        held, good = await outbox_fixture.acquired(), await failed(outbox_fixture)
        retracted, pending, gone = (
            await outbox_fixture.notify(notification_status="RETRACTED"),
            await outbox_fixture.notify(),
            10**15,
        )
        ids = [str(each) for each in (pending, held.id, retracted, gone, good)]
        done = run(outbox_fixture, "retry", *ids, "--yes", "--json")
        assert done.returncode == 1
        told = json.loads(done.stdout)
        assert told["changed"] == [good], "the others do not hold it up"
        assert f"dispatcher show {pending} says when" in told["left_alone"][str(pending)]
        assert "wait until it has ended" in told["left_alone"][str(held.id)]
        assert "it can be sent again" in told["left_alone"][str(retracted)]
        assert told["left_alone"][str(gone)] == "does not exist"
        done = run(outbox_fixture, "retract", str(retracted), "--yes")
        assert (done.returncode, "retracted already" in done.stdout) == (1, True)

    async def test_many_rows_are_changed_in_batches_each_with_an_action_row(self, outbox_fixture: OutboxFixture):
        await outbox_fixture.many(1100)
        done = run(outbox_fixture, "retract", "--status", "PENDING", "--yes", "--json")
        assert (done.returncode, len(json.loads(done.stdout)["changed"])) == (0, 1100)
        batches = await outbox_fixture.rows("select cardinality(notification_ids) from dispatcher.action order by id")
        assert batches == [(500,), (500,), (100,)]
        await outbox_fixture.many(600)
        code, screen = at_terminal(outbox_fixture, "retract", "--status", "PENDING", "--yes")
        assert (code, "500 of 600" in screen, "600 of 600" in screen) == (0, True, True)

    async def test_row_locked_by_another_session_is_named(self, outbox_fixture: OutboxFixture):
        locked, free = await failed(outbox_fixture), await failed(outbox_fixture)
        async with outbox_fixture.owner.transaction():
            await outbox_fixture.rows("select from notify.ent_notification where id = %s for update", locked)
            done = await asyncio.to_thread(run, outbox_fixture, "retry", "--status", "FAILED", "--yes", "--json")
        told = json.loads(done.stdout)
        assert (done.returncode, told["changed"]) == (1, [free])
        assert "locked by another transaction" in told["left_alone"][str(locked)]

    async def test_wrong_usage_is_explained(self, outbox_fixture: OutboxFixture):
        wrong = {
            ("retry", "--yes"): "retry which rows?",
            ("retract", "--workflow", "", "--yes"): "--workflow is empty",
            ("retract", "--enterprise", "", "--since", "1h", "--yes"): "--enterprise is empty",
            ("retry", "--status", "", "--yes"): "--status is empty",
            ("retract",): "retract which rows?",
            ("list", "--since", "\x1b[31myesterday"): "is no time",
            ("list", "--status", "GONE"): "--status GONE does not exist",
            ("show", str(2**63)): "less than or equal to",
        }
        for arguments, said in wrong.items():
            done = run(outbox_fixture, *arguments)
            assert (done.returncode, done.stdout) == (2, "")
            assert said in " ".join(done.stderr.split())
            assert not WILD.search(done.stderr)


class TestRefusals:
    async def test_exit_code_shows_the_kind_of_error(self, outbox_fixture: OutboxFixture):
        assert run(outbox_fixture, "show", "12345").returncode == 1
        nobody = run(outbox_fixture, "list", DATABASE_URL="postgresql://postgres@127.0.0.1:1/x")
        assert (nobody.returncode, "cannot connect to" in nobody.stderr) == (3, True)
        unset = run(outbox_fixture, "status", DATABASE_URL="")
        assert (unset.returncode, "DATABASE_URL is not set" in unset.stderr) == (2, True)
        other = run(outbox_fixture, "status", "--outbox", "notify.typ_notification_category")
        assert (other.returncode, "is no outbox" in other.stderr) == (2, True)

    async def test_missing_right_names_the_grants(self, outbox_fixture: OutboxFixture):
        await outbox_fixture.rows("drop role if exists nobody; create role nobody login")
        await outbox_fixture.rows("grant usage on schema notify, dispatcher to nobody")
        done = run(outbox_fixture, "list", DATABASE_URL=outbox_fixture.url.replace("postgres@", "nobody@"))
        assert done.returncode == 2
        assert "dispatcher db sql grants --operator --role" in done.stderr
        await outbox_fixture.rows("drop owned by nobody; drop role nobody")

    async def test_dry_run_of_sweep_prints_its_result(self, outbox_fixture: OutboxFixture):
        row = await outbox_fixture.acquired()
        await outbox_fixture.expire(row.id)
        await outbox_fixture.notify(notification_status="PROCESSING")
        await outbox_fixture.notify()
        before = await outbox_fixture.snapshot()
        done = run(outbox_fixture, "sweep", "--dry-run", "--json")
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert (found["leases_run_out"], found["held_by_nobody"], found["due"]) == (1, 1, 1)
        assert await outbox_fixture.snapshot() == before


def test_database_command_loads_nothing_that_only_run_needs():
    program = (
        "import sys, dispatcher.cli, dispatcher.cli.operator_session, dispatcher.cli.next_step,"
        " dispatcher.postgres.operator_queries; print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    heavy = {"temporalio", "novu_py", "httpx", "structlog", "starlette", "dispatcher.config.settings", "dispatcher.app"}
    assert not heavy & set(done.stdout.split())
