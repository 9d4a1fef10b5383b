"""Dispatcher: every committed row of a Postgres outbox becomes a Temporal workflow that triggers Novu.

Imports nothing, so that a command pays only for the modules that it uses.
"""

__version__ = "0.1.0"
