"""Rows survive SIGKILL in a burst, two dispatchers, lost runs, a stop during work and lost servers."""

import pytest

from tests.support.stack import Stack
from tests.support.waits import eventually

pytestmark = pytest.mark.slow


async def accepted(stack: Stack, least: int) -> None:
    """Wait until the fake Novu accepted this many."""

    async def enough() -> bool:
        return (await stack.novu.summary()).effects >= least

    await eventually(enough, f"{least} effects; {stack.log_tails()}")


async def effects_are_exactly(stack: Stack, count: int) -> None:
    summary = await stack.novu.summary()
    assert (summary.effects, summary.duplicate_pairs, summary.pairs) == (count, 0, count)


async def test_kill_during_a_burst_loses_and_duplicates_nothing(stack: Stack):
    # Answers take a moment, so that the kill finds calls on the wire, rows claimed and rows waiting.
    await stack.novu.configure(latency_ms=150)
    process = await stack.running(DISPATCHER_LEASE="5s", DISPATCHER_SWEEP_INTERVAL="2s")
    await stack.burst(3000)
    await accepted(stack, 300)
    process.kill()
    left = await stack.counts()
    assert left.get("SENT", 0) < 3000, "the kill came too late to prove anything"

    await stack.running(DISPATCHER_LEASE="5s", DISPATCHER_SWEEP_INTERVAL="2s")

    await stack.all_sent(3000, within=100)
    await effects_are_exactly(stack, 3000)


async def test_kill_during_a_call_repeats_the_same_call(stack: Stack):
    await stack.novu.configure(latency_ms=1500)
    process = await stack.running(DISPATCHER_LEASE="5s", DISPATCHER_SWEEP_INTERVAL="1s")
    row = await stack.notify()

    async def on_the_wire() -> bool:
        return await stack.value("select count(*) from dispatcher.recipient where state = 'sending'") == 1

    await eventually(on_the_wire, "a call on the wire")
    process.kill()
    await stack.novu.configure(latency_ms=0)
    await stack.running(DISPATCHER_LEASE="5s", DISPATCHER_SWEEP_INTERVAL="1s")

    assert await stack.final(row, within=60) == ["SENT"]
    await effects_are_exactly(stack, 1)
    posts = [request for request in await stack.novu.requests() if request.method == "POST" and request.subscribers]
    assert len({request.idempotency_key for request in posts}) == 1
    assert len({request.body_hash for request in posts}) == 1


async def test_two_dispatchers_start_every_row_once(stack: Stack):
    await stack.running()
    await stack.running()
    for _ in range(5):
        await stack.burst(200, enterprises=4)
        await stack.notify()
    await stack.all_sent(1005)
    await effects_are_exactly(stack, 1005)
    assert await stack.value("select count(*) from dispatcher.delivery where attempts <> 1 or generation <> 1") == 0
    claims = "select count(*) from oracle.audit where new_status = 'PROCESSING'"
    assert await stack.value(claims) == 1005


async def test_sigterm_during_a_burst_finishes_running_work(stack: Stack):
    process = await stack.running()
    await stack.burst(3000)
    await accepted(stack, 200)
    assert await process.stop() == 0
    assert await stack.value("select count(*) from dispatcher.delivery where lease_until is not null") == 0, (
        "a clean exit leaves nothing to a lease"
    )
    assert await stack.value("select count(*) from dispatcher.node") == 0
    await stack.running()
    await stack.all_sent(3000)
    await effects_are_exactly(stack, 3000)


async def test_sigterm_while_novu_is_slow_releases_the_other_rows(stack: Stack):
    await stack.novu.configure(latency_ms=8000)
    process = await stack.running(TEMPORAL_MAX_CONCURRENT_ACTIVITIES="2")
    await stack.burst(1000)

    async def on_the_wire() -> bool:
        return await stack.value("select count(*) from dispatcher.recipient where state = 'sending'") == 200

    await eventually(on_the_wire, "two calls on the wire")
    assert await process.stop() == 0
    held = "select count(*) from dispatcher.delivery where lease_until > clock_timestamp()"
    assert await stack.value(held) == 0, "a clean exit leaves nothing to a lease"
    counts = await stack.counts()
    assert counts["PENDING"] >= 600
    assert counts["SENT"] >= 200, "what was on the wire was finished"
    await stack.novu.configure(latency_ms=0)
    await stack.running(DISPATCHER_SWEEP_INTERVAL="1s")
    await stack.all_sent(1000)
    await effects_are_exactly(stack, 1000)
    assert await stack.value("select max(attempts) from dispatcher.delivery") == 1


async def test_row_claimed_by_a_process_that_died_before_the_start_is_rescued(stack: Stack):
    row = await stack.notify(publish_status="DRAFT")
    # A claim whose process dies at once leaves PROCESSING, a lease, and no workflow.
    await stack.rows(
        "insert into dispatcher.delivery (notification_id, birth, generation, fence, attempts, lease_owner,"
        " lease_until, first_claimed_at, claimed_at) select id, substr(encode(sha256(convert_to((select id from"
        " dispatcher.installation)::text || '/' || extract(epoch from created_at)::text, 'UTF8')), 'hex'), 1, 12),"
        " 1, 1, 1, 'gone', clock_timestamp(), now(), now() from notify.ent_notification where id = %s",
        row,
    )
    await stack.rows(
        "update notify.ent_notification set notification_status = 'PROCESSING', publish_status = 'PUBLISH'"
        " where id = %s",
        row,
    )
    await stack.running(DISPATCHER_SWEEP_INTERVAL="1s")
    assert await stack.final(row) == ["SENT"]
    assert await stack.value("select generation from dispatcher.delivery where notification_id = %s", row) == 1


async def test_processing_row_without_a_lease_is_rescued(stack: Stack):
    row = await stack.notify(notification_status="PROCESSING")
    await stack.running(DISPATCHER_LEASE="5s", DISPATCHER_SWEEP_INTERVAL="1s")
    assert await stack.final(row) == ["SENT"]


async def test_terminated_workflow_does_not_lose_its_row(stack: Stack):
    from temporalio.client import Client

    await stack.novu.configure(latency_ms=3000)
    await stack.running(DISPATCHER_LEASE="5s", DISPATCHER_SWEEP_INTERVAL="1s")
    row = await stack.notify()

    async def on_the_wire() -> bool:
        return await stack.value("select count(*) from dispatcher.recipient where state = 'sending'") == 1

    await eventually(on_the_wire, "a call on the wire")
    client = await Client.connect(stack.temporal_address)
    workflow_id = await stack.value("select workflow_id from dispatcher.delivery where notification_id = %s", row)
    await client.get_workflow_handle(workflow_id).terminate()
    await stack.novu.configure(latency_ms=0)

    assert await stack.final(row, within=60) == ["SENT"]
    await effects_are_exactly(stack, 1)


async def test_killed_listener_reconnects(stack: Stack):
    process = await stack.running()

    async def kill() -> int:
        return await stack.value(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity"
            " where datname = current_database() and query ilike 'listen %%'"
        )

    assert await kill() == 1
    row = await stack.notify()
    assert await stack.final(row, within=5) == ["SENT"]

    async def heard_again() -> bool:
        return process.read_log().count('"listening"') == 2

    await eventually(heard_again, "the listener to be proven again", 15)


async def test_kill_of_every_backend_loses_nothing(stack: Stack):
    await stack.running(DISPATCHER_LEASE="5s", DISPATCHER_SWEEP_INTERVAL="1s")
    for _ in range(3):
        await stack.burst(100)
        await stack.rows(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )
    await stack.all_sent(300, within=60)
    await effects_are_exactly(stack, 300)


async def test_rows_wait_for_an_absent_temporal(stack: Stack, tmp_path_factory: pytest.TempPathFactory):
    from dispatcher.devstack import temporal

    folder = tmp_path_factory.mktemp("temporal")
    with temporal.run_temporal(folder, keep=True) as server:
        port = server.port
        process = await stack.running(TEMPORAL_ADDRESS=server.address, DISPATCHER_SWEEP_INTERVAL="1s")
        assert await stack.final(await stack.notify()) == ["SENT"]
    rows = [await stack.notify() for _ in range(3)]

    async def noticed() -> bool:
        return "start_failed" in process.read_log()

    await eventually(noticed, "a failed start")
    # Nothing is claimed while Temporal is away, and no attempt is spent.
    pending = "select count(*) from notify.ent_notification where notification_status = 'PENDING'"

    async def handed_back() -> bool:
        return await stack.value(pending) == 3

    await eventually(handed_back, "rows handed back")
    assert process.popen.poll() is None
    with temporal.run_temporal(folder, keep=True, port=port):
        assert await stack.final(*rows, within=60) == ["SENT"] * 3
        assert await stack.value("select max(attempts) from dispatcher.delivery") == 1
        assert await process.stop() == 0


async def test_rows_wait_for_an_absent_novu(stack: Stack):
    process = await stack.running()
    await stack.stop_novu()
    row = await stack.notify()

    async def tried() -> bool:
        return await stack.value("select count(*) from dispatcher.recipient where outcome = 'not_sent'") == 1

    await eventually(tried, "a call that was not sent")
    await stack.start_novu()
    assert await stack.final(row) == ["SENT"]
    await effects_are_exactly(stack, 1)
    assert process.popen.poll() is None
