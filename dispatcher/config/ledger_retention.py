"""How old a settled generation has to be before the ledger forgets its recipients. Pure."""

from datetime import timedelta

from dispatcher.config.delivery_settings import DeliverySettings

NOVU_KEY_MEMORY = timedelta(hours=26)
"""Novu recognises a repeated call for 24 h, and up to 5 % longer."""


def shortest_retention(namespace_retention: timedelta, retry_horizon: timedelta) -> timedelta:
    """Return the time for which nothing is ever pruned.

    Until then Novu may recognise a repeated call, Temporal a workflow's id, and a cancel at Novu is tried again.
    """
    return max(NOVU_KEY_MEMORY, namespace_retention, retry_horizon)


def pruning_age(settings: DeliverySettings) -> timedelta | None:
    """Return the age from which on the ledger is pruned. None: it is never pruned."""
    if settings.ledger_retention is None:
        return None
    return max(settings.ledger_retention, shortest_retention(settings.namespace_retention, settings.retry_horizon))
