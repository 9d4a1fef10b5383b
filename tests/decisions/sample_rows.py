"""Values of the decision core, as short as a test can say them, and strategies that make many of them."""

from datetime import timedelta
from typing import Any

from hypothesis import strategies as st

from dispatcher.models.notification import Notification, Recipient, RecipientState

SETTLED = (RecipientState.ACCEPTED, RecipientState.REFUSED, RecipientState.CANCELLED)
STATES = st.sampled_from(list(RecipientState))


def recipient(name: str = "ana", state: RecipientState = RecipientState.PLANNED, **fields: Any) -> Recipient:
    """Return one recipient; its transaction id is made of its name."""
    known: dict[str, Any] = {"ordinal": 0, "transaction_id": f"tx-{name}", "state": state}
    return Recipient(name, **{**known, **fields})


def notification(*recipients: Recipient, **fields: Any) -> Notification:
    """Return one notification with these recipients."""
    known: dict[str, Any] = {"id": 1, "generation": 1, "fence": 1, "attempts": 1}
    known["since_first_claim"] = timedelta(0)
    known |= {"workflow_key": "welcome", "recipients": list(recipients)}
    return Notification(**{**known, **fields})


def acquired_row(**columns: Any) -> dict[str, Any]:
    """Return a row as queries/acquire.sql gives it: sendable, unless `columns` say otherwise."""
    row: dict[str, Any] = {
        "notification_id": 7,
        "birth": "b1",
        "generation": 1,
        "fence": 3,
        "attempts": 1,
        "since_first_claim": timedelta(0),
        "age_seconds": 0.0,
        "eligible": True,
        "enterprise": "",
        "has_workflow": True,
        "workflow_key": "welcome",
        "workflow_shared": True,
        "workflow_usable": True,
        "payload": '{"title": "Lift"}',
        "overrides": None,
        "recipients": ["ana"],
        "ledger": None,
        "recipients_missing": None,
        **columns,
    }
    row.setdefault("has_content", row["payload"] is not None)
    row.setdefault("recipient_count", len(row["recipients"] or []))
    for column in ("payload", "overrides"):
        row.setdefault(f"{column}_bytes", len((row[column] or "").encode()))
    return row


@st.composite
def histories(draw: st.DrawFn) -> list[Notification]:
    """Notifications in every state a ledger can hold: some recipients settled, some with a call behind them."""
    rows: list[Notification] = []
    for row_id in range(draw(st.integers(0, 3))):
        people: list[Recipient] = []
        for ordinal in range(draw(st.integers(0, 12))):
            key = draw(st.one_of(st.none(), st.sampled_from(["call-a", "call-b", "call-c"])))
            people.append(
                recipient(
                    f"{row_id}-{ordinal}",
                    draw(STATES),
                    ordinal=ordinal,
                    epoch=draw(st.integers(0, 2)),
                    call_key=key,
                    call_ordinal=None if key is None else draw(st.integers(0, 99)),
                )
            )
        rows.append(notification(*people, id=row_id, payload='{"x": "' + "y" * draw(st.integers(0, 40)) + '"}'))
    return rows
