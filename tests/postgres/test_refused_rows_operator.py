"""An operator sees the rows that the table refuses; a change that it refuses for one row is made for the others."""

from dispatcher.postgres.operator_decisions import preview_of, resend_obstacle
from dispatcher.postgres.operator_queries import OperatorQueries
from dispatcher.postgres.row_filter import RowFilter
from tests.support.outbox_fixture import OutboxFixture, ids_of

TABLE = "notify.ent_notification"
RULE = f"alter table {TABLE} add constraint rule check (name <> 'bad') not valid"


async def test_f186_refused_row_is_listed_and_can_be_retried(outbox_fixture: OutboxFixture, queries: OperatorQueries):
    bad = await outbox_fixture.notify(name="bad")
    await outbox_fixture.rows(RULE)
    assert ids_of(await outbox_fixture.claim()) == []
    [listed] = await queries.list_rows(RowFilter(dead=True), 10)
    assert listed["id"] == bad
    found = await queries.find_row(bad)
    assert found is not None
    assert found["refused"]
    assert resend_obstacle(preview_of(found)) is None
    assert (await queries.read_health())["refused"] == 1
    assert await queries.resend([preview_of(found)]) == []
    assert queries.refusals[bad].startswith("the table refuses the change: new row for relation")
    await outbox_fixture.rows(f"alter table {TABLE} drop constraint rule")
    assert await queries.resend([preview_of(found)]) == [bad]
    assert ids_of(await outbox_fixture.claim()) == [bad]
    assert (await queries.read_health())["refused"] == 0


async def test_f186_change_that_the_table_refuses_for_one_row_is_made_for_others(
    outbox_fixture: OutboxFixture, queries: OperatorQueries
):
    ids = await outbox_fixture.many(20)
    await outbox_fixture.change(ids[5], name="bad")
    await outbox_fixture.rows(RULE)
    changed = await queries.retract(await queries.preview(RowFilter(ids=tuple(ids))))
    assert sorted(changed) == ids[:5] + ids[6:]
    assert list(queries.refusals) == [ids[5]]
    recorded = await outbox_fixture.value("select sum(cardinality(notification_ids)) from dispatcher.action")
    assert recorded == 19
