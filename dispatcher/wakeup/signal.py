"""The wake-up signal: an event without content that the claim loop waits for."""

import asyncio

from dispatcher.telemetry.labels import WakeSource


class WakeUp(asyncio.Event):
    """Set by everything that has a reason to search for due rows. `source` is kept for the metrics alone."""

    def __init__(self) -> None:
        super().__init__()
        self.source: WakeSource = "other"

    def notify(self, source: WakeSource) -> None:
        """Wake the claim loop. A NOTIFY counts as the source before others that come at the same time."""
        if not self.is_set() or source == "notify":
            self.source = source
        self.set()

    def clear(self) -> None:
        """Reset the event and its source."""
        super().clear()
        self.source = "other"
