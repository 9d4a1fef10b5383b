"""The activities of one process, at a fake Novu and a database of their own."""

from collections.abc import AsyncIterator

import pytest

from dispatcher.delivery.activities import DeliveryActivities
from dispatcher.devstack.fake_novu.process import FakeNovu
from dispatcher.novu.client import NovuClient
from tests.support.activity_runs import LIMITS
from tests.support.outbox_fixture import OutboxFixture


@pytest.fixture
async def activities(outbox_fixture: OutboxFixture, novu: FakeNovu) -> AsyncIterator[DeliveryActivities]:
    client = NovuClient(novu.api_key, novu.url)
    yield DeliveryActivities(outbox_fixture.outbox, client, LIMITS)
    await client.aclose()
