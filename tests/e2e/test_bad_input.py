"""Bad rows end as FAILED with a reason; other rows are not affected and the process continues."""

from uuid import uuid4

import pytest

from tests.support.bad_rows import BAD_ROWS, insert
from tests.support.stack import Stack


@pytest.mark.parametrize("batched", [False, True], ids=["alone", "in a batch"])
async def test_each_bad_row_fails_with_a_reason_and_affects_no_other(stack: Stack, *, batched: bool):
    await stack.novu.add_workflow("inactive", active=False)
    good = [await stack.notify() for _ in range(20 if batched else 1)]
    bad: dict[str, int] = {}
    for name, (columns, _) in BAD_ROWS.items():
        bad[name] = await insert(stack, columns)
    good.append(await stack.notify())

    process = await stack.running(DISPATCHER_BATCH_SIZE="100" if batched else "1")

    assert set(await stack.final(*good)) == {"SENT"}
    for name, row in bad.items():
        assert await stack.final(row) == ["FAILED"], name
        details = await stack.details(row)
        assert BAD_ROWS[name][1] in details["error"], name
        assert details["dead_letter"] is True, name
        assert len(details["error"]) < 700
    dead = "select count(*) from dispatcher.delivery where dead_lettered_at is not null and next_attempt_at is null"
    assert await stack.value(dead) == len(bad)
    assert process.popen.poll() is None


async def test_row_scheduled_at_infinity_is_never_due(stack: Stack):
    never = await stack.notify(scheduled_for="infinity")
    await stack.running()
    assert await stack.final(await stack.notify()) == ["SENT"]
    assert await stack.final(await stack.notify(scheduled_for="-infinity")) == ["SENT"]
    assert await stack.status(never) == "PENDING"


async def test_one_refused_recipient_of_three_is_partial(stack: Stack):
    refused = uuid4()
    await stack.novu.configure(refused_recipients=[str(refused)])
    await stack.running()
    row = await stack.notify(recipients=[uuid4(), refused, uuid4()])
    assert await stack.final(row) == ["FAILED"]  # XNovu's enum has no PARTIAL
    details = await stack.details(row)
    assert (details["outcome"], details["successCount"], details["totalRecipients"]) == ("PARTIAL", 2, 3)
    [failure] = [result for result in details["results"] if not result["success"]]
    assert failure["recipientId"] == str(refused)
    assert "refused the recipient" in failure["error"]


async def test_partial_is_stored_if_the_enum_has_it(stack: Stack):
    await stack.rows("alter type shared_types.notification_status add value 'PARTIAL'")
    refused = uuid4()
    await stack.novu.configure(refused_recipients=[str(refused)])
    await stack.running()
    row = await stack.notify(recipients=[uuid4(), refused])
    assert await stack.final(row) == ["PARTIAL"]
