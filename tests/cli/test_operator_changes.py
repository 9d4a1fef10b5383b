"""retry and retract as real processes: confirmation, dry run, refusals, exit codes."""

import asyncio
import json
import re
from uuid import uuid4

from dispatcher.models.notification import RecipientState
from tests.cli.operator_commands import at_terminal, failed, run
from tests.support.outbox_fixture import OutboxFixture

WILD = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e]")


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
