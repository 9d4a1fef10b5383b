"""The kinds of faults by name. Each proves by a fact that it had an effect, and undoes it before it returns."""

from collections.abc import Awaitable, Callable
from random import Random

from tests.chaos.environment import ChaosEnvironment, Slot

Injection = Callable[[ChaosEnvironment, Random], Awaitable[str]]
KINDS: dict[str, Injection] = {}


class MissedError(Exception):
    """The fault had no effect: it does not count."""


def injection(name: str) -> Callable[[Injection], Injection]:
    """Register a kind; its function returns a description of what it did, or raises `MissedError`."""

    def register(function: Injection) -> Injection:
        KINDS[name] = function
        return function

    return register


def met(fact: object, what: str) -> None:
    """Raise `MissedError` unless the fact shows that the fault had an effect."""
    if not fact:
        raise MissedError(what)


def some_slots(environment: ChaosEnvironment, dice: Random) -> list[Slot]:
    """Return one slot, or now and then all of them."""
    return list(environment.slots) if dice.random() < 0.25 else [dice.choice(environment.slots)]


def deck(dice: Random) -> list[str]:
    """Return every kind once, shuffled."""
    names = sorted(KINDS)
    dice.shuffle(names)
    return names
