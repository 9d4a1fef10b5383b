"""Ids and idempotency keys for Novu: the same row, generation and recipient always give the same ones. Pure.

`birth` is the ledger's hash of installation and creation time. It keeps apart rows that share an id after a TRUNCATE
or a restore into another database.
"""

import hashlib
from collections.abc import Iterable


def transaction_id(birth: str, notification_id: int, generation: int, recipient: str) -> str:
    """Return Novu's `transactionId` for one recipient of one generation."""
    return "n1-" + digest(birth, str(notification_id), str(generation), recipient)


def single_call_key(transaction: str, epoch: int) -> str:
    """Return the Idempotency-Key of a call with one recipient; a new `epoch` gives a new key."""
    return f"{transaction}:{epoch}"


def bulk_call_key(members: Iterable[tuple[str, int]]) -> str:
    """Return the Idempotency-Key of a bulk call with these (transactionId, epoch) members.

    It depends on their order too: Novu refuses a key that it sees again with other bytes.
    """
    return "b1-" + digest(*(single_call_key(transaction, epoch) for transaction, epoch in members))


def body_hash(workflow_key: str, payload: str, overrides: str | None) -> str:
    """Return a hash of the content that each recipient of a notification gets."""
    return digest(workflow_key, payload, overrides or "")


def digest(*parts: str) -> str:
    """Return a hash of `parts`, 32 hex digits. Each part is length-prefixed, so ("ab", "c") and ("a", "bc") differ."""
    text = "".join(f"{len(part)}:{part}" for part in parts)
    # PostgreSQL never returns a lone surrogate. If one came all the same, it must not fail a whole batch.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
