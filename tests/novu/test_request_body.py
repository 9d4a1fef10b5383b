"""Our spelling of a request's body is the one of the installed novu-py, field by field."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from novu_py.models import BulkTriggerEventDto, TriggerEventRequestDto
from novu_py.utils.serializers import marshal_json

from dispatcher.devstack.fake_novu.process import FakeNovu
from dispatcher.models.call_result import AnswerClass, TriggerEvent
from dispatcher.novu.client import NovuClient
from dispatcher.novu.request_body import body_text

EVENTS = [
    TriggerEvent("default-in-app", "ana", "tx-1", '{"title":"Lift 3","n":[1,2.5,null]}', None),
    TriggerEvent("k", 'b\u00f6 \U0001f6a8 \\ " \n </x>', "tx-2", "{}", '{"layoutIdentifier":"x"}'),
    TriggerEvent("with \u2028", "", "tx-\u00e9", '{"":{"deep":{"to":"name"}}}', "{}"),
]


def of_sdk(event: TriggerEvent) -> TriggerEventRequestDto:
    """Return the SDK's model of an event."""
    fields: dict[str, Any] = {
        "workflow_id": event.workflow_key,
        "to": event.recipient,
        "payload": json.loads(event.payload),
        "transaction_id": event.transaction_id,
    }
    if event.overrides is not None:
        fields["overrides"] = json.loads(event.overrides)
    return TriggerEventRequestDto(**fields)


def bulk_of_sdk(events: list[TriggerEvent]) -> str:
    """Return the body that the SDK makes of a bulk call."""
    return marshal_json(BulkTriggerEventDto(events=[of_sdk(event) for event in events]), BulkTriggerEventDto)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.transaction_id)
def test_single_event_is_spelled_as_the_sdk_spells_it(event: TriggerEvent) -> None:
    ours, theirs = body_text([event]), marshal_json(of_sdk(event), TriggerEventRequestDto)
    assert json.loads(ours) == json.loads(theirs)
    assert ours == theirs, "a call of an earlier version is repeated under the same key with the same bytes"


def test_bulk_call_is_spelled_as_the_sdk_spells_it() -> None:
    ours, theirs = body_text(EVENTS), bulk_of_sdk(EVENTS)
    assert json.loads(ours) == json.loads(theirs)
    assert ours == theirs


def test_body_of_a_bulk_call_costs_less_than_a_tenth_of_the_sdks() -> None:
    events = [TriggerEvent("k", f"r{n}", f"tx-{n}", '{"title":"Lift"}', None) for n in range(100)]

    def seconds(make: Callable[[list[TriggerEvent]], object]) -> float:
        begun = time.process_time()
        for _ in range(5):
            make(events)
        return time.process_time() - begun

    ratios = sorted(seconds(body_text) / seconds(bulk_of_sdk) for _ in range(7))
    assert ratios[3] < 0.1, ratios


async def test_answer_to_a_bulk_call_is_read_by_us_alone(client: NovuClient, novu: FakeNovu) -> None:
    events = [TriggerEvent("default-in-app", "ana", "tx-1", "{}", None), TriggerEvent("none", "bo", "tx-2", "{}", None)]
    accepted, refused = await client.trigger(events, "key-1", 5)
    assert (accepted.answer_class, refused.answer_class) == (AnswerClass.ACCEPTED, AnswerClass.REFUSED)
    [request] = await novu.requests()
    assert (request.path, request.idempotency_key) == ("/v1/events/trigger/bulk", "key-1")
    assert await novu.body(request.seq) == body_text(events).encode()
