"""Bad rows end FAILED with a reason in words; their neighbours are untouched and the process lives."""

from typing import Any
from uuid import uuid4

import pytest
from house import House

BAD_ROWS: dict[str, tuple[dict[str, Any], str]] = {
    "no workflow": ({"workflow": "none"}, "notification_workflow_id is not set"),
    "unpublished workflow": ({"workflow": "draft"}, "not published or is deactivated"),
    "deactivated workflow": ({"workflow": "off"}, "not published or is deactivated"),
    "workflow unknown to Novu": ({"workflow": "unknown-to-novu"}, "workflow_not_found"),
    "workflow inactive at Novu": ({"workflow": "inactive"}, "not active"),
    "no recipients": ({"recipients": []}, "recipients are empty"),
    "a NULL recipient": ({"recipients": [uuid4(), None]}, "recipients hold a NULL"),
    "payload is an array": ({"payload": "[1]"}, "payload is not a JSON object"),
    "payload is a scalar": ({"payload": '"text"'}, "payload is not a JSON object"),
    "payload is JSON null": ({"payload": "null"}, "payload is not a JSON object"),
    "overrides are an array": ({"overrides": "[]"}, "overrides is not a JSON object"),
    "6,000 levels of JSON": ({"payload": '{"a":' * 6000 + "1" + "}" * 6000}, "nested too deeply"),
    "5,000 digits": ({"payload": '{"n": ' + "7" * 5000 + "}"}, "payload cannot be read"),
    "600 KiB": ({"payload": '{"x": "' + "x" * 600 * 1024 + '"}'}, "Novu takes at most 524288"),
}


async def insert(house: House, columns: dict[str, Any]) -> int:
    """Insert one of the rows above; their workflow is named by what is wrong with it."""
    columns = dict(columns)
    kind = columns.pop("workflow", None)
    if kind == "draft":
        columns["workflow"] = await house.workflow("a-draft", publish="DRAFT")
    elif kind == "off":
        columns["workflow"] = await house.workflow("switched-off", deactivated=True)
    elif kind in ("unknown-to-novu", "inactive"):
        columns["workflow"] = await house.workflow(kind)
    row = await house.notify(**columns)
    if kind == "none":
        await house.rows("update notify.ent_notification set notification_workflow_id = null where id = %s", row)
    return row


@pytest.mark.parametrize("batched", [False, True], ids=["alone", "in a batch"])
async def test_each_bad_row_fails_in_words_and_hurts_nobody(house: House, *, batched: bool):
    await house.novu.add_workflow("inactive", active=False)
    good = [await house.notify() for _ in range(20 if batched else 1)]
    bad: dict[str, int] = {}
    for name, (columns, _) in BAD_ROWS.items():
        bad[name] = await insert(house, columns)
    good.append(await house.notify())

    process = await house.running(DISPATCHER_BATCH_SIZE="100" if batched else "1")

    assert set(await house.final(*good)) == {"SENT"}
    for name, row in bad.items():
        assert await house.final(row) == ["FAILED"], name
        details = await house.details(row)
        assert BAD_ROWS[name][1] in details["error"], name
        assert details["dead_letter"] is True, name
        assert len(details["error"]) < 700
    dead = "select count(*) from dispatcher.delivery where dead_lettered_at is not null and next_attempt_at is null"
    assert await house.value(dead) == len(bad)
    assert process.popen.poll() is None


async def test_infinity_is_never_due(house: House):
    never = await house.notify(scheduled_for="infinity")
    await house.running()
    assert await house.final(await house.notify()) == ["SENT"]
    assert await house.final(await house.notify(scheduled_for="-infinity")) == ["SENT"]
    assert await house.status(never) == "PENDING"


async def test_one_refused_recipient_of_three_is_partial(house: House):
    refused = uuid4()
    await house.novu.configure(refused_recipients=[str(refused)])
    await house.running()
    row = await house.notify(recipients=[uuid4(), refused, uuid4()])
    assert await house.final(row) == ["FAILED"]  # XNovu's enum has no PARTIAL
    details = await house.details(row)
    assert (details["outcome"], details["successCount"], details["totalRecipients"]) == ("PARTIAL", 2, 3)
    [failure] = [result for result in details["results"] if not result["success"]]
    assert failure["recipientId"] == str(refused)
    assert "refused the recipient" in failure["error"]


async def test_partial_is_stored_where_the_enum_has_it(house: House):
    await house.rows("alter type shared_types.notification_status add value 'PARTIAL'")
    refused = uuid4()
    await house.novu.configure(refused_recipients=[str(refused)])
    await house.running()
    row = await house.notify(recipients=[uuid4(), refused])
    assert await house.final(row) == ["PARTIAL"]
