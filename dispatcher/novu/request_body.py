"""The body of a trigger request, joined from JSON texts, in the bytes that novu-py would write.

Building its models and dumping them takes longer than everything else of a bulk call, and its models drop override keys
that they do not know. A test compares both spellings with the installed novu-py, field by field.
"""

import json
from collections.abc import Sequence

from novu_py.models import BulkTriggerEventDto, TriggerEventRequestDto

from dispatcher.models.call_result import TriggerEvent

STAND_IN = TriggerEventRequestDto(workflow_id="", to="")
BULK_STAND_IN = BulkTriggerEventDto(events=[])
"""Given to the SDK in place of the events: `RawJsonClient` replaces the body that the SDK makes of them."""


def body_text(events: Sequence[TriggerEvent]) -> str:
    """Return the body of the request that triggers the events: of a bulk call unless it is one event."""
    texts = [event_text(event) for event in events]
    return texts[0] if len(texts) == 1 else f'{{"events":[{",".join(texts)}]}}'


def event_text(event: TriggerEvent) -> str:
    """Return one event. Payload and overrides are its own JSON texts, byte for byte."""
    overrides = "" if event.overrides is None else f'"overrides":{event.overrides},'
    return (
        f'{{"name":{json.dumps(event.workflow_key)},"to":{json.dumps(event.recipient)},"payload":{event.payload},'
        f'{overrides}"transactionId":{json.dumps(event.transaction_id)}}}'
    )
