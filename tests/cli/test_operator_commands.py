"""The operator's commands as real processes: stdout, stderr, a terminal and exit codes."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dispatcher.models.notification import RecipientState
from tests.cli.operator_commands import Done, at_terminal, command, failed, run
from tests.support.outbox_fixture import OutboxFixture, calls_of
from tests.support.waits import eventually

HOSTILE = "\x1b[31mred\x1b]0;owned\x07 [bold]loud[/bold] [link=http://x]here[/link]\r\n\u202etab\there \u009b31m"


ESCAPED = r"\x1b[31mred\x1b]0;owned\x07 [bold]loud[/bold]"


WILD = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e]")


def start(outbox_fixture: OutboxFixture, folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a command that writes into a folder."""
    program, environment = command(outbox_fixture, *arguments)
    with (folder / "out").open("wb") as out, (folder / "words").open("wb") as words:
        return subprocess.Popen(program, env=environment, stdout=out, stderr=words, cwd="/")


def lines(done: Done) -> list[Any]:
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


async def hostile(outbox_fixture: OutboxFixture) -> int:
    """Write a row full of control characters and markup."""
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


def test_database_command_loads_nothing_that_only_run_needs():
    program = (
        "import sys, dispatcher.cli, dispatcher.cli.operator_session, dispatcher.cli.next_step,"
        " dispatcher.postgres.operator_queries; print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    heavy = {"temporalio", "novu_py", "httpx", "structlog", "starlette", "dispatcher.config.settings", "dispatcher.app"}
    assert not heavy & set(done.stdout.split())
