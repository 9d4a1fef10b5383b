"""Who is who towards Novu: the same row, generation and recipient always give the same identity. Pure.

`birth` is the ledger's hash of installation and creation time, so an id that comes back after TRUNCATE or a restore
elsewhere is somebody else.
"""

import hashlib
from collections.abc import Iterable


def transaction_id(birth: str, notification_id: int, generation: int, recipient: str) -> str:
    """Return Novu's `transactionId` for one recipient of one generation."""
    return "n1-" + digest(birth, str(notification_id), str(generation), recipient)


def single_call_key(transaction: str, epoch: int) -> str:
    """Return the Idempotency-Key of a call with one recipient."""
    return f"{transaction}:{epoch}"


def bulk_call_key(members: Iterable[tuple[str, int]]) -> str:
    """Return the Idempotency-Key of a bulk call; it changes with its members' ids and epochs and their order."""
    return "b1-" + digest(*(single_call_key(transaction, epoch) for transaction, epoch in members))


def body_hash(workflow_key: str, payload: str, overrides: str | None) -> str:
    """Return a hash of what a recipient of a notification is sent."""
    return digest(workflow_key, payload, overrides or "")


def digest(*parts: str) -> str:
    """Return 32 hex digits; parts are length-prefixed, so ("ab", "c") and ("a", "bc") differ."""
    text = "".join(f"{len(part)}:{part}" for part in parts)
    # A lone surrogate cannot come from PostgreSQL; were one to come, it must not stop a batch.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
