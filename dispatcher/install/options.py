"""The options of an installation, and its report."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from dispatcher.models.errors import ConfigurationError

Say = Callable[[str], None]
"""Takes a line of progress for the person who runs the command."""


@dataclass(frozen=True)
class Options:
    """How to install or remove. Writers of the outbox wait at most `lock_timeout` per attempt."""

    outbox: str = "notify.ent_notification"
    indexes: bool = True
    ledger: bool = False  # on removal: also drop our schema, and with it the record of all calls
    lock_timeout: timedelta = timedelta(seconds=3)
    installation: UUID | None = None  # DISPATCHER_INSTALLATION
    restored: bool = False  # a person has said what the outbox is, also if it came without its ledger
    attempts: int = 10
    index_timeout: timedelta = timedelta(minutes=10)  # building waits for older transactions, but blocks no writer
    exclusive_timeout: timedelta = timedelta(
        minutes=15
    )  # the wait for another installer, which may be building indexes

    def __post_init__(self) -> None:
        if min(self.lock_timeout, self.index_timeout) < timedelta(milliseconds=1):
            raise ConfigurationError("with a lock timeout below 1ms PostgreSQL would wait for ever: use one like 3s")


@dataclass(frozen=True)
class Difference:
    """One object or file that differs. `problem`: missing, changed, invalid, disabled or newer."""

    kind: str
    name: str
    problem: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}: {self.problem}" + (f" ({self.detail})" if self.detail else "")


@dataclass(frozen=True)
class Report:
    """The differences that an installation repaired, those that remain, and warnings."""

    changed: list[Difference] = field(default_factory=list[Difference])
    remaining: list[Difference] = field(default_factory=list[Difference])
    warnings: list[str] = field(default_factory=list[str])


def say_nothing(_: str) -> None:
    """Ignore the line."""


DEFAULT = Options()
