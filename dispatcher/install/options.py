"""What an installation is asked to do and what it answers."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from dispatcher.models.errors import ConfigurationError

Say = Callable[[str], None]
"""Takes what a person who waits wants to know; by default nobody waits."""


@dataclass(frozen=True)
class Options:
    """How to install or remove. Writers of the outbox wait at most `lock_timeout`, with pauses between the attempts."""

    outbox: str = "notify.ent_notification"
    indexes: bool = True
    ledger: bool = False  # on removal: also drop our schema, and with it what was sent to whom
    lock_timeout: timedelta = timedelta(seconds=3)
    attempts: int = 10
    index_timeout: timedelta = timedelta(minutes=10)  # building waits for older transactions but blocks nobody
    exclusive_timeout: timedelta = timedelta(minutes=15)  # for another installer, which may be building indexes

    def __post_init__(self) -> None:
        if min(self.lock_timeout, self.index_timeout) < timedelta(milliseconds=1):
            raise ConfigurationError("a lock timeout below 1ms would mean to wait for ever: use one like 3s")


@dataclass(frozen=True)
class Difference:
    """One object that is not as this version expects it."""

    kind: str
    name: str
    problem: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}: {self.problem}" + (f" ({self.detail})" if self.detail else "")


@dataclass(frozen=True)
class Report:
    """What an installation did, and what it could not put right."""

    changed: list[Difference] = field(default_factory=list[Difference])
    remaining: list[Difference] = field(default_factory=list[Difference])
    warnings: list[str] = field(default_factory=list[str])


def say_nothing(_: str) -> None:
    """Say nothing."""


DEFAULT = Options()
