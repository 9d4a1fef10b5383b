"""Each call is written down before it leaves, and only what may still be sent gets leave."""

from uuid import uuid4

import pytest

from dispatcher.decisions.call_planning import Call
from dispatcher.models.notification import RecipientState
from tests.support.outbox_fixture import INELIGIBLE, NOT_OURS, OutboxFixture, calls_of, fenced_out, members_of


async def test_each_call_is_recorded_and_allowed(outbox_fixture: OutboxFixture):
    names = [str(uuid4()) for _ in range(3)]
    row = await outbox_fixture.acquired(recipients=names)
    single, bulk = Call(tuple(members_of(row)[:1])), Call(tuple(members_of(row)[1:]))
    assert await outbox_fixture.outbox.record_calls([single, bulk]) == {(row.id, name) for name in names}
    entries = await outbox_fixture.entries(row.id)
    assert [entry["recipient"] for entry in entries] == names
    assert [entry["call_key"] for entry in entries] == [single.key, bulk.key, bulk.key]
    assert [entry["call_ordinal"] for entry in entries] == [0, 0, 1]
    for entry, recipient in zip(entries, row.recipients, strict=True):
        assert (entry["state"], entry["attempts"], entry["epoch"]) == ("sending", 1, 0)
        assert entry["transaction_id"] == recipient.transaction_id
        assert entry["body_hash"] == row.body_hash
        assert entry["first_called_at"] <= entry["last_called_at"]


async def test_repeated_call_counts_and_keeps_the_first_time(outbox_fixture: OutboxFixture):
    row = await outbox_fixture.acquired()
    await outbox_fixture.outbox.record_calls(calls_of(row))
    [first] = await outbox_fixture.entries(row.id)
    row.recipients[0].epoch = 1
    await outbox_fixture.outbox.record_calls(calls_of(row))
    [again] = await outbox_fixture.entries(row.id)
    assert (again["attempts"], again["epoch"], again["call_key"]) == (2, 1, calls_of(row)[0].key)
    assert again["first_called_at"] == first["first_called_at"] < again["last_called_at"]


async def test_call_of_a_fenced_out_run_is_refused(outbox_fixture: OutboxFixture):
    row = await outbox_fixture.acquired()
    before = await outbox_fixture.snapshot()
    assert await outbox_fixture.outbox.record_calls(calls_of(fenced_out(row))) == set()
    assert await outbox_fixture.snapshot() == before


@pytest.mark.parametrize("kind", {**INELIGIBLE, **NOT_OURS})
async def test_call_for_a_row_that_became_ineligible_is_refused(outbox_fixture: OutboxFixture, kind: str):
    row, other = await outbox_fixture.acquired(), await outbox_fixture.acquired()
    await outbox_fixture.change(row.id, **{**INELIGIBLE, **NOT_OURS}[kind])
    assert await outbox_fixture.outbox.record_calls(calls_of(row, other)) == {(other.id, other.recipients[0].id)}
    assert await outbox_fixture.entries(row.id) == []


async def test_call_for_a_released_row_is_refused(outbox_fixture: OutboxFixture):
    row = await outbox_fixture.acquired()
    await outbox_fixture.outbox.release([row])
    assert await outbox_fixture.outbox.record_calls(calls_of(row)) == set()


@pytest.mark.parametrize("state", [RecipientState.ACCEPTED, RecipientState.REFUSED, RecipientState.CANCELLED])
async def test_settled_recipient_never_goes_back_to_sending(outbox_fixture: OutboxFixture, state: RecipientState):
    row = await outbox_fixture.acquired(recipients=[uuid4(), uuid4()])
    await outbox_fixture.outbox.record_calls(calls_of(row))
    row.recipients[0].state, row.recipients[1].state = state, RecipientState.UNKNOWN
    await outbox_fixture.outbox.settle(members_of(row), [])
    assert await outbox_fixture.outbox.record_calls(calls_of(row)) == {(row.id, row.recipients[1].id)}
    assert [entry["state"] for entry in await outbox_fixture.entries(row.id)] == [state, "sending"]


async def test_many_calls_are_recorded_in_one_statement(outbox_fixture: OutboxFixture):
    names = [str(uuid4()) for _ in range(3000)]
    row = await outbox_fixture.acquired(recipients=names)
    assert len(await outbox_fixture.outbox.record_calls(calls_of(row))) == 3000
    await outbox_fixture.settle(row, RecipientState.ACCEPTED)
    assert await outbox_fixture.status(row.id) == "SENT"
    details = (await outbox_fixture.row(row.id))["error_details"]
    assert (details["successCount"], details["totalRecipients"], len(details["results"])) == (3000, 3000, 1000)


async def test_no_calls_record_nothing(outbox_fixture: OutboxFixture):
    assert await outbox_fixture.outbox.record_calls([]) == set()
