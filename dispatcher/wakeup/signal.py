"""What wakes the door: an event without content. Who rang first is kept for the metrics alone."""

import asyncio

from dispatcher.telemetry.labels import WakeSource


class WakeUp(asyncio.Event):
    """Set by everything that has reason to look for due rows."""

    def __init__(self) -> None:
        super().__init__()
        self.source: WakeSource = "other"

    def notify(self, source: WakeSource) -> None:
        """Wake the door. A notification counts before what came at the same time by chance."""
        if not self.is_set() or source == "notify":
            self.source = source
        self.set()

    def clear(self) -> None:
        """Sleep again."""
        super().clear()
        self.source = "other"
