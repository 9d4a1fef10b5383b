"""The scenario: the notifications that the demo writes, their times, and their expected results. Pure data.

The rows have the shapes that applications write. Times are seconds from the start of the scenario.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from dispatcher.models.notification import Status

TENANT = "7a1d0c52-3b64-4e8f-9c21-5f0e8d6b4a17"
UNKNOWN_KEY = "lift-maintenance"
"""A workflow key that the outbox's database publishes and Novu does not have."""


@dataclass(frozen=True)
class Action:
    """A later change by the application to the rows of a step, at `at` seconds."""

    name: Literal["publish", "retract"]
    at: float


@dataclass(frozen=True)
class Step:
    """Rows of one kind, written at `at`: in one statement, or one by one every `apart` seconds.

    `status` and `outcome` are the expected result.
    """

    key: str
    title: str
    workflow: str
    payload: Mapping[str, Any]
    at: float
    rows: int = 1
    apart: float = 0
    recipients: int = 1
    refused: int = 0  # number of each row's recipients that Novu refuses
    due_in: float | None = None
    published: bool = True
    overrides: Mapping[str, Any] | None = None
    tags: tuple[str, ...] = ()
    then: Action | None = None
    status: Status = Status.SENT
    outcome: Status | None = Status.SENT  # in error_details; None: no run ended for the row
    accepted: int = field(default=1)  # number of each row's recipients that Novu accepts, once each


SCENARIO = (
    Step(
        "scheduled",
        "Scheduled 3 s ahead",
        "default-push",
        {"title": "Meeting in ten minutes", "message": "Room Kestrel, second floor", "priority": "high"},
        at=0.0,
        due_in=3.0,
    ),
    Step(
        "retracted",
        "Scheduled 4 s ahead, retracted earlier",
        "default-email",
        {"subject": "Water off tonight", "title": "Water off tonight", "message": "From 22:00 in the east wing"},
        at=0.05,
        due_in=4.0,
        then=Action("retract", 1.05),
        status=Status.RETRACTED,
        outcome=None,
        accepted=0,
    ),
    Step(
        "draft",
        "A draft, published 1.5 s later",
        "default-in-app",
        {"title": "Survey", "message": "How was your first month?", "category": "people"},
        at=0.1,
        published=False,
        then=Action("publish", 1.6),
    ),
    Step(
        "immediate",
        "One notification",
        "default-in-app",
        {"title": "Parcel arrived", "message": "Waiting at the front desk 📦", "priority": "medium"},
        at=0.2,
        tags=("desk",),
    ),
    Step(
        "three",
        "Three recipients, with overrides",
        "default-multi-channel",
        {"title": "Air quality", "message": "CO2 is high", "alert": {"level": "amber", "ppm": 1150.50}},
        at=0.3,
        recipients=3,
        overrides={"email": {"subject": "Air quality on floor 3", "showHeader": True, "components": ["a", "b", "c"]}},
        accepted=3,
    ),
    Step(
        "trickle",
        "Twenty, one by one",
        "default-chat",
        {"message": "Shift handover noted", "channel": "facility"},
        at=0.5,
        rows=20,
        apart=0.05,
    ),
    Step(
        "unknown",
        "A workflow that Novu does not know",
        UNKNOWN_KEY,
        {"lift": "B", "from": "09:00", "to": "11:30"},
        at=1.7,
        status=Status.FAILED,
        outcome=Status.FAILED,
        accepted=0,
    ),
    Step(
        "refused",
        "Three recipients, one refused by Novu",
        "default-sms",
        {"message": "Fire drill at 14:00, assembly point C", "urgency": "high"},
        at=1.8,
        recipients=3,
        refused=1,
        status=Status.FAILED,  # the outbox's enum has no PARTIAL
        outcome=Status.PARTIAL,
        accepted=2,
    ),
    Step(
        "burst",
        "Five hundred in one statement",
        "default-in-app",
        {"title": "Heating season starts", "message": "Radiators are on from Monday", "buildingId": "K7", "floor": 3},
        at=2.0,
        rows=500,
    ),
)
