"""The numbers of /status and /metrics: counted as the claim sees the rows, for the enterprises of this process."""

from datetime import timedelta
from uuid import uuid4

from dispatcher.postgres.backlog_stats import BacklogStats
from dispatcher.postgres.outbox import OutboxStore
from tests.support.outbox_fixture import OutboxFixture

MINUTE = timedelta(minutes=1)


async def read_stats(outbox: OutboxStore, *, all_rows: bool = True, most_counted: int = 1000) -> BacklogStats:
    return await outbox.backlog_stats(all_rows=all_rows, living=MINUTE, most_counted=most_counted)


async def test_empty_outbox_has_stats(outbox_fixture: OutboxFixture):
    told = await read_stats(outbox_fixture.outbox)
    assert (told["due"], told["scheduled"], told["oldest_age"], told["in_flight"]) == (0, 0, 0, 0)
    assert (told["rows"], told["dead_letters"], told["nodes"]) == ({}, 0, [])


async def test_rows_are_counted_by_their_next_event(outbox_fixture: OutboxFixture):
    await outbox_fixture.notify(created_at="2020-01-01")
    await outbox_fixture.notify(created_at="-infinity")  # owners write anything; it must not make the question fail
    await outbox_fixture.notify(scheduled_for="2020-01-01")
    await outbox_fixture.notify(scheduled_for="2999-01-01")
    await outbox_fixture.notify(scheduled_for="infinity")
    await outbox_fixture.notify(publish_status="DRAFT")
    await outbox_fixture.notify(deactivated=True)
    await outbox_fixture.notify(notification_status="SENT")
    told = await read_stats(outbox_fixture.outbox)
    assert (told["due"], told["scheduled"]) == (3, 2)
    assert told["oldest_age"] > timedelta(days=365).total_seconds()
    assert told["rows"] == {"PENDING": 7, "SENT": 1}


async def test_only_rows_of_served_enterprises_are_counted(outbox_fixture: OutboxFixture):
    mine, other = uuid4(), uuid4()
    await outbox_fixture.many(2, enterprise=mine)
    await outbox_fixture.many(3, enterprise=other)
    told = await read_stats(await outbox_fixture.node("mine", mine))
    assert (told["due"], told["rows"]) == (2, {"PENDING": 2})
    assert (await read_stats(outbox_fixture.outbox))["due"] == 5


async def test_table_that_is_too_large_is_not_counted_row_by_row(outbox_fixture: OutboxFixture):
    await outbox_fixture.many(20)
    await outbox_fixture.rows("analyze notify.ent_notification")
    told = await read_stats(outbox_fixture.outbox, most_counted=10)
    assert (told["due"], told["rows"], told["dead_letters"]) == (20, None, 0)
    assert (await read_stats(outbox_fixture.outbox, all_rows=False))["rows"] is None


async def test_dead_letter_counts_until_it_is_retracted_or_deleted(outbox_fixture: OutboxFixture):
    ids = [await outbox_fixture.notify(notification_status="FAILED") for _ in range(3)]
    await outbox_fixture.rows(
        "insert into dispatcher.delivery (notification_id, birth, generation, fence, first_claimed_at, claimed_at,"
        " dead_lettered_at)"
        " select id, 'b', 1, 1, now(), now(), now() from unnest(%s::bigint[]) id",
        ids,
    )
    assert (await read_stats(outbox_fixture.outbox))["dead_letters"] == 3
    await outbox_fixture.rows(
        "update notify.ent_notification set notification_status = 'RETRACTED' where id = %s", ids[0]
    )
    await outbox_fixture.rows("delete from notify.ent_notification where id = %s", ids[1])
    assert (await read_stats(outbox_fixture.outbox))["dead_letters"] == 1


async def test_dead_nodes_are_left_out(outbox_fixture: OutboxFixture):
    await outbox_fixture.outbox.heartbeat(role="all", host="here", version="1", mode="EVENT")
    [node] = (await read_stats(outbox_fixture.outbox))["nodes"]
    assert (node["mode"], node["host"], node["in_flight"]) == ("EVENT", "here", 0)
    await outbox_fixture.rows("update dispatcher.node set seen_at = now() - interval '2 minutes'")
    assert (await read_stats(outbox_fixture.outbox))["nodes"] == []
