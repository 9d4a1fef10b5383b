"""The repetition of a bulk call with an unknown outcome, while its owner changes one of the call's rows."""

import asyncio
from typing import Any

import pytest

from dispatcher.delivery.activities import DeliveryActivities
from dispatcher.devstack.fake_novu.process import FakeNovu
from dispatcher.models.workflow_contract import THROTTLED, UNSETTLED
from dispatcher.novu.client import NovuClient
from tests.delivery.test_unknown_without_keys import age, triggers
from tests.support.activity_runs import LIMITS, run_activity
from tests.support.outbox_fixture import OutboxFixture
from tests.support.proxy import proxied
from tests.support.waits import eventually


@pytest.mark.parametrize("change", [{"publish_status": "DRAFT"}, {"notification_status": "RETRACTED"}])
async def test_f191_row_that_leaves_a_repeated_call_does_not_make_it_another_call(
    outbox_fixture: OutboxFixture, activities: DeliveryActivities, novu: FakeNovu, change: dict[str, Any]
):
    await novu.add_fault("reset_after", path="/v1/events/trigger/bulk", times=1)
    ids = await outbox_fixture.many(12)
    await outbox_fixture.claim()
    assert await run_activity(outbox_fixture, activities, ids) == UNSETTLED
    await age(outbox_fixture, 60)
    fence = (await outbox_fixture.head(ids[0]))["fence"]

    async def is_acquired() -> bool:
        return (await outbox_fixture.head(ids[0]))["fence"] > fence

    async with proxied("127.0.0.1", int(novu.url.rsplit(":", 1)[1])) as proxy:
        client = NovuClient(novu.api_key, f"http://127.0.0.1:{proxy.port}")
        proxy.stall()  # the process is new: it asks whether Novu honours keys, after it has acquired the rows
        run = asyncio.create_task(
            run_activity(outbox_fixture, DeliveryActivities(outbox_fixture.outbox, client, LIMITS), ids)
        )
        await eventually(is_acquired, "the rows are acquired")
        await outbox_fixture.change(ids[0], **change)
        await proxy.heal()
        assert await run == THROTTLED
        await client.aclose()
    await age(outbox_fixture, 60)
    assert await run_activity(outbox_fixture, activities, ids) == ""
    assert [await outbox_fixture.status(each) for each in ids[1:]] == ["SENT"] * 11
    assert await outbox_fixture.status(ids[0]) == change.get("notification_status", "PENDING")
    assert await triggers(novu) == 1
    summary = await novu.summary()
    assert (summary.effects, summary.duplicate_pairs) == (12, 0)
