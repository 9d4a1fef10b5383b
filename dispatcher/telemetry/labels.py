"""Label values that several modules share: the components of a process, and the sources of a wake-up."""

from typing import Literal, get_args

Component = Literal["postgres", "outbox", "listener", "claim", "temporal", "novu", "sweep", "retraction"]
COMPONENTS: tuple[Component, ...] = get_args(Component)

WakeSource = Literal["notify", "sweep", "poll", "other"]
WAKE_SOURCES: tuple[WakeSource, ...] = get_args(WakeSource)
