"""The waits between tries. Arithmetic only: nothing here sleeps or reads a clock."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Backoff:
    """Doubling delays with a cap."""

    first: timedelta
    cap: timedelta

    def delay(self, failures: int) -> timedelta:
        """Return the wait after the given number of failures in a row (1, 2, …)."""
        doublings = min(max(failures, 1) - 1, 40)  # 2**40 seconds is past every cap
        return min(self.first * 2**doublings, self.cap)

    def jittered(self, failures: int, fraction: float) -> timedelta:
        """Return between half of the delay and all of it; `fraction`, in [0, 1), is the caller's random number."""
        return self.delay(failures) * (0.5 + fraction / 2)

    def total_wait(self, failures: int) -> timedelta:
        """Return the sum of the waits after the first `failures` failures."""
        return sum((self.delay(number) for number in range(1, failures + 1)), timedelta())


MAX_RECONNECT_DELAY = timedelta(seconds=5)
"""Cap of the listener's pauses between reconnects (1 2 4 5 5 … s by default): it has to listen again within 15 s."""

TEMPORAL_BACKOFF = Backoff(timedelta(milliseconds=500), timedelta(seconds=10))
"""0.5 1 2 4 8 10 10 … s between checks of a Temporal server that does not answer."""

RETRY_BACKOFF = Backoff(timedelta(minutes=1), timedelta(hours=1))
"""1 2 4 8 16 32 60 60 … min between the runs of a failed row."""

CANCEL_BACKOFF = Backoff(timedelta(seconds=1), timedelta(minutes=10))
"""1 2 4 … 512 600 600 … s between tries to cancel a retracted notification at Novu."""

CALLS_PER_RUN = 10
"""A generation ends after this many calls for one recipient times the runs that it may have, whatever they ended with.
A call that never left, or that Novu only throttled, is not counted. A run makes five, and more where it splits a bulk
call."""


def next_run_delay(
    attempts: int, since_first_claim: timedelta, *, max_runs: int, horizon: timedelta
) -> timedelta | None:
    """Return the wait until the next automatic run, or None when the row becomes a dead letter.

    `attempts`: runs of this generation so far. `since_first_claim`: time since the first of them was claimed. No retry
    is planned after `max_runs` runs, nor later than `horizon` after the first claim.
    """
    wait = RETRY_BACKOFF.delay(attempts)
    if attempts >= max_runs or since_first_claim + wait > horizon:
        return None
    return wait
