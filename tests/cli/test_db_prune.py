"""`dispatcher db prune` as a real process."""

import json

import anyio

from tests.cli.operator_commands import at_terminal, failed, run
from tests.postgres.old_ledger import make_old, sent
from tests.support.outbox_fixture import OutboxFixture


async def recipients(outbox_fixture: OutboxFixture) -> int:
    return await outbox_fixture.value("select count(*) from dispatcher.recipient")


async def test_f233_dry_run_counts_and_prune_ends_in_one_line(outbox_fixture: OutboxFixture):
    gone, kept = await sent(outbox_fixture), await failed(outbox_fixture)
    await make_old(outbox_fixture)
    would = json.loads(run(outbox_fixture, "db", "prune", "--dry-run", "--json").stdout)
    assert (would["recipients"], would["heads"]) == (1, 0)
    assert would["bytes"] > 100
    assert await recipients(outbox_fixture) == 2
    done = run(outbox_fixture, "db", "prune")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("pruned 1 recipients and 0 heads older than 30d (0.0 MiB without indexes)")
    assert done.stdout.count("\n") == 1
    assert (await outbox_fixture.entries(gone), len(await outbox_fixture.entries(kept))) == ([], 1)
    shown = run(outbox_fixture, "show", str(gone)).stdout
    assert "the ledger has forgotten its recipients" in shown
    assert "a retraction would cancel nothing at Novu" in shown


async def test_f233_older_replaces_the_retention_but_not_the_shortest_one(outbox_fixture: OutboxFixture):
    await sent(outbox_fixture)
    await make_old(outbox_fixture, days=5)
    for older, retention in (("1h", "7d"), ("10d", "1d")):
        done = run(outbox_fixture, "db", "prune", "--older", older, DISPATCHER_NAMESPACE_RETENTION=retention)
        assert (done.returncode, await recipients(outbox_fixture)) == (0, 1), done
    assert "younger than 7d" in run(outbox_fixture, "db", "prune", "--older", "1h").stderr
    done = run(outbox_fixture, "db", "prune", "--older", "1h", DISPATCHER_NAMESPACE_RETENTION="1d")
    assert "younger than 1d2h" in done.stderr
    assert await recipients(outbox_fixture) == 0


async def test_f233_retention_that_is_off_needs_older(outbox_fixture: OutboxFixture):
    await sent(outbox_fixture)
    await make_old(outbox_fixture)
    off = {"DISPATCHER_LEDGER_RETENTION": "off"}
    refused = run(outbox_fixture, "db", "prune", **off)
    assert refused.returncode == 2
    assert "--older" in refused.stderr
    assert run(outbox_fixture, "db", "prune", "--older", "soon").returncode == 2
    assert await recipients(outbox_fixture) == 1
    assert run(outbox_fixture, "db", "prune", "--older", "20d", **off).returncode == 0
    assert await recipients(outbox_fixture) == 0


async def test_f233_progress_is_on_the_terminal(outbox_fixture: OutboxFixture):
    await sent(outbox_fixture)
    await make_old(outbox_fixture)
    code, screen = await anyio.to_thread.run_sync(at_terminal, outbox_fixture, "db", "prune")
    assert code == 0
    assert "\r1 recipients, 0 heads\r\n" in screen


async def test_f233_resend_of_a_pruned_row_is_told_how_many_get_it_again(outbox_fixture: OutboxFixture):
    row = await sent(outbox_fixture)
    await make_old(outbox_fixture)
    run(outbox_fixture, "db", "prune")
    assert (
        "1 of those recipients were accepted by Novu before"
        in run(outbox_fixture, "retry", str(row), "--dry-run").stderr
    )
    assert "nothing of them is cancelled at Novu" in run(outbox_fixture, "retract", str(row), "--dry-run").stderr
