"""How the rows of a run ended: counted for the workflow's result, and logged."""

from collections import Counter
from collections.abc import Sequence

from temporalio import activity

from dispatcher.decisions.final_status import failure_code
from dispatcher.models.notification import Notification, Status
from dispatcher.models.workflow_contract import ResultCounts
from dispatcher.telemetry.logs import get_logger

MAX_LOGGED_ROWS = 20
"""At most this many rows of a batch are logged as `will_retry`; the ledger has all. Every dead letter is logged."""

log = get_logger("sender")


def log_results(rows: Sequence[Notification]) -> None:
    """Log each dead letter, some of the rows to be retried, and the number of rows per final status."""
    run_log = log.bind(workflow_id=activity.info().workflow_id)
    ended = [(row, row.final_status) for row in rows if row.final_status is not None]
    not_sent = [(row, final) for row, final in ended if final.status is not Status.SENT]
    dead = [(row, final) for row, final in not_sent if final.retry_in is None]
    retried = [(row, final) for row, final in not_sent if final.retry_in is not None]
    for row, final in dead + retried[:MAX_LOGGED_ROWS]:
        run_log.warning(
            "dead_letter" if final.retry_in is None else "will_retry",
            notification_id=row.id,
            generation=row.generation,
            status=final.status.value,
            cause=failure_code(row),
            reason=final.reason,
            retry_in=final.retry_in and final.retry_in.total_seconds(),
        )
    if ended:
        counts = count_results(rows)
        run_log.info("delivered", sent=counts.sent, partial=counts.partial, failed=counts.failed)


def count_results(rows: Sequence[Notification]) -> ResultCounts:
    """Return how many rows ended with each final status; rows without one are in no count."""
    counts = Counter(row.final_status.status for row in rows if row.final_status is not None)
    return ResultCounts(counts[Status.SENT], counts[Status.PARTIAL], counts[Status.FAILED])
