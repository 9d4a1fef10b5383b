"""Dispatcher: every committed row of a Postgres outbox becomes a Temporal workflow that triggers Novu.

Imports nothing: Temporal's sandbox imports this package again for every workflow run.
"""

__version__ = "0.1.0"
