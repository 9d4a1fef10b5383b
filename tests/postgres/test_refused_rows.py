"""A rule of the owner's table that refuses one row stops no other row, and is told in the table's words."""

from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest

from dispatcher.decisions.final_status import decide_status
from dispatcher.models.claims import WorkflowStart
from dispatcher.models.notification import Notification, RecipientState
from dispatcher.postgres.outbox import OutboxStore
from dispatcher.postgres.pool import check_installed
from tests.support.outbox_fixture import LEASE, RELATIONS, OutboxFixture, calls_of, ids_of, members_of

TABLE = "notify.ent_notification"


def raising(body: str, timing: str = "before update") -> str:
    """Return the statements for a trigger that raises for the row named `bad`."""
    constraint, deferred = ("constraint ", "deferrable initially deferred ") if "after" in timing else ("", "")
    return (
        "create function notify.rule() returns trigger language plpgsql as $$ begin"
        f" if new.name = 'bad' then raise exception {body}; end if; return new; end $$;"
        f" create {constraint}trigger rule {timing} on {TABLE} {deferred}for each row execute function notify.rule()"
    )


def foreign_key(status: str) -> str:
    """Return the statements for a foreign key that allows the row named `bad` this status only."""
    return (
        "create table notify.known (status shared_types.notification_status, name text, primary key (status, name));"
        " insert into notify.known select s, 'good' from unnest(enum_range(null::shared_types.notification_status)) s;"
        f" insert into notify.known values ('{status}', 'bad'); alter table {TABLE}"
        " add foreign key (notification_status, name) references notify.known (status, name)"
    )


RULES = {
    "check that is not validated": f"alter table {TABLE} add constraint rule check (name <> 'bad') not valid",
    "trigger": raising("'no bad lifts' using errcode = 'P0001'"),
    "deferred trigger": raising("'no bad lifts'", "after update"),
    "privilege of a trigger": raising("'no bad lifts' using errcode = '42501'"),
    "generated column": f"alter table {TABLE} add column price integer generated always as"
    " (case when name = 'bad' and notification_status <> 'PENDING' then 1 / (length(name) - 3) else 1 end) stored",
    "foreign key": foreign_key("PENDING"),
    "json with a zero": f"alter table {TABLE} alter column error_details type json using error_details::json;"
    f" update {TABLE} set error_details = '{{\"a\": \"\\u0000\"}}' where name = 'bad'",
}


async def rule(outbox_fixture: OutboxFixture, statements: str) -> None:
    for statement in statements.split("; ") if "$$" not in statements else [statements]:
        await outbox_fixture.rows(statement)


async def rows_with_one_bad(outbox_fixture: OutboxFixture, count: int = 20) -> tuple[list[int], int]:
    """Return the ids of good rows, and the id of a row among them that RULES refuse."""
    ids = await outbox_fixture.many(count)
    await outbox_fixture.rows(f"update {TABLE} set name = 'good'")
    bad = ids[count // 3]
    await outbox_fixture.change(bad, name="bad")
    return [each for each in ids if each != bad], bad


async def in_work(outbox_fixture: OutboxFixture, count: int = 20) -> list[Notification]:
    """Return rows of one run of which Novu accepted every recipient. The one named `bad` is the eighth."""
    await outbox_fixture.many(count)
    await outbox_fixture.rows(f"update {TABLE} set name = 'good'")
    [start] = (await outbox_fixture.claim()).starts
    found = await outbox_fixture.outbox.acquire(start.notification_ids, start.workflow_id, LEASE)
    rows = [item.notification for item in found]
    await outbox_fixture.change(rows[7].id, name="bad")
    await outbox_fixture.outbox.record_calls(calls_of(*rows))
    for row in rows:
        row.recipients[0].state = RecipientState.ACCEPTED
        row.final_status = decide_status(row, None)
    return rows


async def is_dead_letter(outbox_fixture: OutboxFixture, notification_id: int, *words: str) -> None:
    head = await outbox_fixture.head(notification_id)
    assert head["dead_lettered_at"] is not None
    assert (head["lease_owner"], head["lease_until"]) == (None, None)
    for each in words:
        assert each in head["last_error"]
    stats = await outbox_fixture.outbox.backlog_stats(all_rows=False, living=LEASE, most_counted=1000)
    assert (stats["refused"], stats["dead_letters"]) == (1, 1)


@pytest.mark.parametrize("kind", RULES)
@pytest.mark.parametrize("fair", [False, True])
async def test_f186_row_that_the_table_refuses_stops_no_claim(outbox_fixture: OutboxFixture, kind: str, *, fair: bool):
    good, bad = await rows_with_one_bad(outbox_fixture)
    await rule(outbox_fixture, RULES[kind])
    capacity = 15 if fair else 1000
    claimed = ids_of(await outbox_fixture.claim(capacity=capacity, batch_size=1 if fair else 100))
    if fair:
        claimed += ids_of(await outbox_fixture.claim(capacity=1000))
    assert sorted(claimed) == good
    assert await outbox_fixture.status(bad) == "PENDING"
    await is_dead_letter(outbox_fixture, bad, "the table refuses the status PROCESSING: ", "SQLSTATE")
    assert ids_of(await outbox_fixture.claim()) == []
    assert await outbox_fixture.outbox.seconds_until_due() is None


async def test_f186_refused_row_is_claimed_after_an_update_by_its_owner(outbox_fixture: OutboxFixture):
    good, bad = await rows_with_one_bad(outbox_fixture)
    await rule(outbox_fixture, RULES["check that is not validated"])
    assert sorted(ids_of(await outbox_fixture.claim())) == good
    await outbox_fixture.change(bad, name="mended")
    assert ids_of(await outbox_fixture.claim()) == [bad]
    [row] = await outbox_fixture.acquire(bad)
    assert (row.generation, row.attempts) == (1, 1)
    head = await outbox_fixture.head(bad)
    assert (head["dead_lettered_at"], head["refused_version"]) == (None, None)


async def test_f186_failed_row_that_the_table_refuses_is_retried_after_an_update(outbox_fixture: OutboxFixture):
    rows = [await outbox_fixture.acquired() for _ in range(2)]
    for row in rows:
        await outbox_fixture.settle(row, RecipientState.UNKNOWN, timedelta(0))
    await outbox_fixture.change(rows[1].id, name="bad")
    await rule(outbox_fixture, RULES["check that is not validated"])
    assert ids_of(await outbox_fixture.claim()) == [rows[0].id]
    await outbox_fixture.change(rows[1].id, name="mended")
    assert ids_of(await outbox_fixture.claim()) == [rows[1].id]
    assert (await outbox_fixture.head(rows[1].id))["generation"] == 1


async def test_f186_role_that_may_not_read_versions_tries_a_refused_row_in_the_next_hour(
    outbox_fixture: OutboxFixture,
):
    status = await check_installed(outbox_fixture.pool, TABLE)
    outbox = OutboxStore(
        outbox_fixture.pool, relations=RELATIONS, status=replace(status, reads_version=False), node="here"
    )
    bad = await outbox_fixture.notify(name="bad")
    await rule(outbox_fixture, RULES["check that is not validated"])
    assert ids_of(await outbox_fixture.claim(outbox)) == []
    await outbox_fixture.change(bad, name="mended")
    assert ids_of(await outbox_fixture.claim(outbox)) == []
    await outbox_fixture.rows("update dispatcher.delivery set refused_version = '2020-01-01 00'")
    assert ids_of(await outbox_fixture.claim(outbox)) == [bad]


async def test_f186_two_rows_that_exclude_each_other_stop_no_other(outbox_fixture: OutboxFixture):
    ids = await outbox_fixture.many(5)
    await outbox_fixture.rows(f"update {TABLE} set name = 'twin' where id = any(%s)", ids[1:3])
    await outbox_fixture.rows(f"create unique index on {TABLE} (name) where notification_status = 'PROCESSING'")
    assert sorted(ids_of(await outbox_fixture.claim())) == [ids[0], ids[1], ids[3], ids[4]]
    await is_dead_letter(outbox_fixture, ids[2], "duplicate key", "SQLSTATE 23505")


@pytest.mark.parametrize("kind", [*list(RULES)[:4], "foreign key"])
async def test_f186_accepted_row_whose_status_the_table_refuses_is_told_as_that(
    outbox_fixture: OutboxFixture, kind: str
):
    rows = await in_work(outbox_fixture)
    await rule(outbox_fixture, foreign_key("PROCESSING") if kind == "foreign key" else RULES[kind])
    written = await outbox_fixture.outbox.settle(members_of(*rows), rows)
    assert {row.id for row in rows} - {row.id for row in written} == {rows[7].id}
    assert (rows[7].released, rows[7].locked) == (True, False)
    assert await outbox_fixture.status(rows[7].id) == "PROCESSING"
    await is_dead_letter(outbox_fixture, rows[7].id, "Novu accepted it, but the table refuses the status SENT: ")
    assert [entry["state"] for entry in await outbox_fixture.entries(rows[7].id)] == ["accepted"]
    assert await outbox_fixture.outbox.adopt_orphans(LEASE, 10) == 0


@pytest.mark.parametrize("owner", ["mends it", "wants it sent again"])
async def test_f186_accepted_row_is_finished_without_a_call_after_an_update(outbox_fixture: OutboxFixture, owner: str):
    rows = await in_work(outbox_fixture)
    await rule(outbox_fixture, RULES["check that is not validated"])
    await outbox_fixture.outbox.settle(members_of(*rows), rows)
    bad = rows[7].id
    if owner == "mends it":
        await outbox_fixture.change(bad, name="mended")
        assert await outbox_fixture.outbox.adopt_orphans(LEASE, 10) == 1
        await outbox_fixture.expire(bad)
        [expired] = await outbox_fixture.outbox.find_expired(10)
        assert await outbox_fixture.outbox.rescue(expired, LEASE) is not None
    else:
        await outbox_fixture.change(bad, name="mended", notification_status="PENDING")
        assert ids_of(await outbox_fixture.claim()) == [bad]
    [again] = await outbox_fixture.acquire(bad)
    assert not again.has_unsettled_recipients, "no call is left to make"
    again.final_status = decide_status(again, None)
    await outbox_fixture.outbox.settle([], [again])
    assert await outbox_fixture.status(bad) == "SENT"
    head = await outbox_fixture.head(bad)
    assert (head["generation"], head["refused_version"], head["dead_lettered_at"]) == (1, None, None)


async def test_f186_refused_retraction_stops_no_other_and_is_cancelled(outbox_fixture: OutboxFixture):
    rows = await in_work(outbox_fixture)
    await outbox_fixture.outbox.settle(members_of(*rows), rows)
    await outbox_fixture.rows(f"update {TABLE} set notification_status = 'RETRACTED'")
    never_sent = await outbox_fixture.notify(name="bad 2", notification_status="RETRACTED")
    await outbox_fixture.rows(f"alter table {TABLE} add constraint rule check (name not in ('bad', 'bad 2')) not valid")
    found = await outbox_fixture.outbox.detect_retracted(100)
    assert found == {row.id: 1 for row in rows} | {never_sent: 0}
    assert await outbox_fixture.outbox.detect_retracted(100) == {}
    head = await outbox_fixture.head(rows[7].id)
    assert "its retraction is carried out, but the table refuses our note of it" in head["last_error"]
    assert [entry["cancel_at"] is not None for entry in await outbox_fixture.entries(rows[7].id)] == [True]
    assert (await outbox_fixture.row(rows[7].id))["error_details"]["outcome"] == "SENT", "the row stays as it is"


@pytest.mark.parametrize("statement", ["release", "release_unstarted", "release_node"])
async def test_f186_row_that_may_not_become_pending_stops_no_other(outbox_fixture: OutboxFixture, statement: str):
    outbox = outbox_fixture.outbox
    rows = await in_work(outbox_fixture)
    await rule(outbox_fixture, RULES["trigger"])
    workflow = (await outbox_fixture.head(rows[0].id))["workflow_id"]
    match statement:
        case "release":
            await outbox.release(rows)
        case "release_unstarted":
            await outbox.release_unstarted(WorkflowStart(workflow, [row.id for row in rows], first_try=False))
        case _:
            assert await outbox.release_node() == 0
    statuses = [await outbox_fixture.status(row.id) for row in rows]
    if statement == "release_node":  # the next sweep of another node goes on with all of them
        [expired] = await outbox.find_expired(100)
        assert len(expired.ids) == len(rows)
        return
    assert statuses == ["PENDING"] * 7 + ["PROCESSING"] + ["PENDING"] * 12
    await is_dead_letter(outbox_fixture, rows[7].id, "the table refuses the status PENDING: no bad lifts")
    assert await outbox.adopt_orphans(LEASE, 10) == 0


@pytest.mark.parametrize("code", ["57014", "40001", "55P03", "53100", "08006", "58030"])
async def test_f186_error_that_is_nobodys_fault_blames_no_row(outbox_fixture: OutboxFixture, code: str):
    rows = await in_work(outbox_fixture, 8)
    await rule(outbox_fixture, raising(f"'later' using errcode = '{code}'"))
    await count_statements(outbox_fixture)
    with pytest.raises(psycopg.Error, match="later"):
        await outbox_fixture.outbox.settle(members_of(*rows), rows)
    assert await statements(outbox_fixture) == 1
    assert await outbox_fixture.value("select count(*) from dispatcher.delivery where refused_version is not null") == 0


@pytest.mark.parametrize("fault", ["every row", "a right", "a column"])
async def test_f186_fault_of_every_row_blames_none(outbox_fixture: OutboxFixture, fault: str):
    await outbox_fixture.many(100)
    if fault == "every row":
        await outbox_fixture.rows(f"update {TABLE} set name = 'bad'")
        await rule(outbox_fixture, RULES["trigger"])
        await count_statements(outbox_fixture)
    elif fault == "a right":
        await outbox_fixture.rows(
            "create function notify.each() returns trigger language plpgsql as $$ begin"
            " raise exception 'no' using errcode = '42501'; end $$;"
            f" create trigger each before update on {TABLE} for each statement execute function notify.each()"
        )
    else:
        await outbox_fixture.rows(f"alter table {TABLE} rename column updated_at to changed_at")
    with pytest.raises(psycopg.Error):
        await outbox_fixture.claim()
    if fault == "every row":
        assert await statements(outbox_fixture) < 60
    assert await outbox_fixture.value("select count(*) from dispatcher.delivery") == 0


async def test_f186_one_refused_row_of_a_hundred_costs_few_statements(outbox_fixture: OutboxFixture):
    rows = await in_work(outbox_fixture, 100)
    await rule(outbox_fixture, RULES["check that is not validated"])
    await count_statements(outbox_fixture)
    assert len(await outbox_fixture.outbox.settle(members_of(*rows), rows)) == 99
    assert await statements(outbox_fixture) <= 18


async def count_statements(outbox_fixture: OutboxFixture) -> None:
    """Count the statements that update the outbox, also those that PostgreSQL undoes."""
    await outbox_fixture.rows(
        "create sequence notify.statements; create function notify.counts() returns trigger language plpgsql as"
        " $$ begin perform nextval('notify.statements'); return null; end $$;"
        f" create trigger counts before update on {TABLE} for each statement execute function notify.counts()"
    )


async def statements(outbox_fixture: OutboxFixture) -> int:
    return await outbox_fixture.value("select case when is_called then last_value else 0 end from notify.statements")
