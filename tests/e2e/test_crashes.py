"""What survives: SIGKILL in a burst, two dispatchers, lost runs, a stop in mid-work, lost servers."""

import pytest
from house import House, eventually

pytestmark = pytest.mark.slow


async def accepted(house: House, least: int) -> None:
    """Wait until the stand-in accepted so many."""

    async def enough() -> bool:
        return (await house.novu.summary()).effects >= least

    await eventually(enough, f"{least} effects; {house.last_words()}")


async def effects_are_exactly(house: House, count: int) -> None:
    summary = await house.novu.summary()
    assert (summary.effects, summary.duplicate_pairs, summary.pairs) == (count, 0, count)


async def test_a_kill_in_the_burst_loses_nothing_and_doubles_nothing(house: House):
    # Answers take a moment, so that the kill finds calls on the wire, rows claimed and rows waiting.
    await house.novu.configure(latency_ms=150)
    process = await house.running(DISPATCHER_LEASE="5s", DISPATCHER_SWEEP_INTERVAL="2s")
    await house.burst(3000)
    await accepted(house, 300)
    process.kill()
    left = await house.counts()
    assert left.get("SENT", 0) < 3000, "the kill came too late to prove anything"

    await house.running(DISPATCHER_LEASE="5s", DISPATCHER_SWEEP_INTERVAL="2s")

    await house.all_sent(3000, within=100)
    await effects_are_exactly(house, 3000)


async def test_a_kill_while_one_row_is_on_the_wire_repeats_the_same_call(house: House):
    await house.novu.configure(latency_ms=1500)
    process = await house.running(DISPATCHER_LEASE="5s", DISPATCHER_SWEEP_INTERVAL="1s")
    row = await house.notify()

    async def on_the_wire() -> bool:
        return await house.value("select count(*) from dispatcher.recipient where state = 'sending'") == 1

    await eventually(on_the_wire, "a call on the wire")
    process.kill()
    await house.novu.configure(latency_ms=0)
    await house.running(DISPATCHER_LEASE="5s", DISPATCHER_SWEEP_INTERVAL="1s")

    assert await house.final(row, within=60) == ["SENT"]
    await effects_are_exactly(house, 1)
    posts = [request for request in await house.novu.requests() if request.method == "POST"]
    assert len({request.idempotency_key for request in posts}) == 1
    assert len({request.body_hash for request in posts}) == 1


async def test_two_dispatchers_start_every_row_once(house: House):
    await house.running()
    await house.running()
    for _ in range(5):
        await house.burst(200, enterprises=4)
        await house.notify()
    await house.all_sent(1005)
    await effects_are_exactly(house, 1005)
    assert await house.value("select count(*) from dispatcher.delivery where attempts <> 1 or generation <> 1") == 0
    claims = "select count(*) from oracle.audit where new_status = 'PROCESSING'"
    assert await house.value(claims) == 1005


async def test_sigterm_in_a_burst_finishes_what_runs(house: House):
    process = await house.running()
    await house.burst(3000)
    await accepted(house, 200)
    assert await process.stop() == 0
    assert await house.value("select count(*) from dispatcher.delivery where lease_until is not null") == 0, (
        "a clean exit leaves nothing to a lease"
    )
    assert await house.value("select count(*) from dispatcher.node") == 0
    await house.running()
    await house.all_sent(3000)
    await effects_are_exactly(house, 3000)


async def test_sigterm_while_novu_is_slow_hands_the_rest_back(house: House):
    await house.novu.configure(latency_ms=8000)
    process = await house.running(TEMPORAL_MAX_CONCURRENT_ACTIVITIES="2")
    await house.burst(1000)

    async def on_the_wire() -> bool:
        return await house.value("select count(*) from dispatcher.recipient where state = 'sending'") == 200

    await eventually(on_the_wire, "two calls on the wire")
    assert await process.stop() == 0
    held = "select count(*) from dispatcher.delivery where lease_until > clock_timestamp()"
    assert await house.value(held) == 0, "a clean exit leaves nothing to a lease"
    counts = await house.counts()
    assert counts["PENDING"] >= 600
    assert counts["SENT"] >= 200, "what was on the wire was finished"
    await house.novu.configure(latency_ms=0)
    await house.running(DISPATCHER_SWEEP_INTERVAL="1s")
    await house.all_sent(1000)
    await effects_are_exactly(house, 1000)
    assert await house.value("select max(attempts) from dispatcher.delivery") == 1


async def test_a_claimed_row_whose_process_died_before_the_start_is_rescued(house: House):
    row = await house.notify(publish_status="DRAFT")
    # What a claim leaves behind when its process dies at once: PROCESSING, a lease, no workflow.
    await house.rows(
        "insert into dispatcher.delivery (notification_id, birth, generation, fence, attempts, lease_owner,"
        " lease_until, first_claimed_at, claimed_at) select id, substr(encode(sha256(convert_to((select id from"
        " dispatcher.installation)::text || '/' || extract(epoch from created_at)::text, 'UTF8')), 'hex'), 1, 12),"
        " 1, 1, 1, 'gone', clock_timestamp(), now(), now() from notify.ent_notification where id = %s",
        row,
    )
    await house.rows(
        "update notify.ent_notification set notification_status = 'PROCESSING', publish_status = 'PUBLISH'"
        " where id = %s",
        row,
    )
    await house.running(DISPATCHER_SWEEP_INTERVAL="1s")
    assert await house.final(row) == ["SENT"]
    assert await house.value("select generation from dispatcher.delivery where notification_id = %s", row) == 1


async def test_a_row_left_in_processing_by_somebody_else_is_rescued(house: House):
    row = await house.notify(notification_status="PROCESSING")
    await house.running(DISPATCHER_LEASE="5s", DISPATCHER_SWEEP_INTERVAL="1s")
    assert await house.final(row) == ["SENT"]


async def test_a_terminated_workflow_does_not_lose_its_row(house: House):
    from temporalio.client import Client

    await house.novu.configure(latency_ms=3000)
    await house.running(DISPATCHER_LEASE="5s", DISPATCHER_SWEEP_INTERVAL="1s")
    row = await house.notify()

    async def on_the_wire() -> bool:
        return await house.value("select count(*) from dispatcher.recipient where state = 'sending'") == 1

    await eventually(on_the_wire, "a call on the wire")
    client = await Client.connect(house.temporal_address)
    workflow_id = await house.value("select workflow_id from dispatcher.delivery where notification_id = %s", row)
    await client.get_workflow_handle(workflow_id).terminate()
    await house.novu.configure(latency_ms=0)

    assert await house.final(row, within=60) == ["SENT"]
    await effects_are_exactly(house, 1)


async def test_a_killed_listener_hears_again(house: House):
    process = await house.running()

    async def kill() -> int:
        return await house.value(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity"
            " where datname = current_database() and query ilike 'listen %%'"
        )

    assert await kill() == 1
    row = await house.notify()
    assert await house.final(row, within=5) == ["SENT"]

    async def heard_again() -> bool:
        return process.words().count('"listening"') == 2

    await eventually(heard_again, "the listener to be proven again", 15)


async def test_every_backend_killed_is_a_pause_and_no_loss(house: House):
    await house.running(DISPATCHER_LEASE="5s", DISPATCHER_SWEEP_INTERVAL="1s")
    for _ in range(3):
        await house.burst(100)
        await house.rows(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )
    await house.all_sent(300, within=60)
    await effects_are_exactly(house, 300)


async def test_temporal_away_is_waited_for(house: House, tmp_path_factory: pytest.TempPathFactory):
    from dispatcher.devstack import temporal

    folder = tmp_path_factory.mktemp("temporal")
    with temporal.running(folder, keep=True) as server:
        port = server.port
        process = await house.running(TEMPORAL_ADDRESS=server.address, DISPATCHER_SWEEP_INTERVAL="1s")
        assert await house.final(await house.notify()) == ["SENT"]
    rows = [await house.notify() for _ in range(3)]

    async def noticed() -> bool:
        return "start_failed" in process.words()

    await eventually(noticed, "a failed start")
    # Nothing is claimed while Temporal is away, and no attempt is spent.
    pending = "select count(*) from notify.ent_notification where notification_status = 'PENDING'"

    async def handed_back() -> bool:
        return await house.value(pending) == 3

    await eventually(handed_back, "rows handed back")
    assert process.popen.poll() is None
    with temporal.running(folder, keep=True, port=port):
        assert await house.final(*rows, within=60) == ["SENT"] * 3
        assert await house.value("select max(attempts) from dispatcher.delivery") == 1
        assert await process.stop() == 0


async def test_novu_away_is_waited_for(house: House):
    process = await house.running()
    await house.stop_novu()
    row = await house.notify()

    async def tried() -> bool:
        return await house.value("select count(*) from dispatcher.recipient where outcome = 'not_sent'") == 1

    await eventually(tried, "a call that was not sent")
    await house.start_novu()
    assert await house.final(row) == ["SENT"]
    await effects_are_exactly(house, 1)
    assert process.popen.poll() is None
