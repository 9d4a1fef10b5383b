"""How long to wait before the next try: arithmetic only, nothing here sleeps or reads a clock."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Backoff:
    """Doubling delays with a cap."""

    first: timedelta
    most: timedelta

    def delay(self, failures: int) -> timedelta:
        """Return the wait after the given number of failures in a row (1, 2, …)."""
        doublings = min(max(failures, 1) - 1, 40)  # 2**40 seconds is past every cap
        return min(self.first * 2**doublings, self.most)

    def jittered(self, failures: int, fraction: float) -> timedelta:
        """Return half to all of the delay; `fraction` in [0, 1) is the caller's random number."""
        return self.delay(failures) * (0.5 + fraction / 2)

    def spent(self, failures: int) -> timedelta:
        """Return how long the waits after so many failures took together."""
        return sum((self.delay(number) for number in range(1, failures + 1)), timedelta())


MOST_RECONNECT = timedelta(seconds=5)
"""The cap of the listener's pauses (1 2 4 5 5 … s by default): it must be heard again within 15 s."""

BREAKER = Backoff(timedelta(milliseconds=500), timedelta(seconds=10))
"""0.5 1 2 4 8 10 10 … s between looks at a Temporal that does not answer."""

RUNS = Backoff(timedelta(minutes=1), timedelta(hours=1))
"""1 2 4 8 16 32 60 60 … min between runs of a row that failed."""

CANCELS = Backoff(timedelta(seconds=1), timedelta(minutes=10))
"""1 2 4 … 512 600 600 … s between tries to take a retracted notification back at Novu."""


def next_run(attempts: int, age: timedelta, *, max_runs: int, horizon: timedelta) -> timedelta | None:
    """Return the wait until the next automatic run, or None when the row becomes a dead letter.

    `attempts` is how many runs the generation had, `age` how long ago its first one was claimed.
    """
    wait = RUNS.delay(attempts)
    if attempts >= max_runs or age + wait > horizon:
        return None
    return wait
