"""The names under which Temporal knows our workflow and its activities, its input and its result: ids only."""

from dataclasses import dataclass
from typing import Any

WORKFLOW = "NotificationDelivery"
DELIVER = "deliver"
GIVE_UP = "give_up"
"""Names under which Temporal knows the workflow and its activities."""
UNSETTLED = "Unsettled"
THROTTLED = "Held"
"""The types of what `deliver` raises: another try can settle more; or it only has to wait, which spends no try."""
BATCH_QUEUE_SUFFIX = "-lane"
MAX_IDS = 1000
"""More than any version of ours ever put into one workflow."""


def batch_queue(task_queue: str) -> str:
    """Return the queue of batches and retries that stands beside `task_queue`."""
    return task_queue if task_queue.endswith(BATCH_QUEUE_SUFFIX) else task_queue + BATCH_QUEUE_SUFFIX


@dataclass(frozen=True, slots=True)
class Batch:
    """A workflow's input: which notifications it carries."""

    notification_ids: list[int]

    @classmethod
    def parse(cls, value: Any) -> "Batch":
        """Return the batch that `given` is; ValueError for anything else: others may start workflows too."""
        ids = value.get("notification_ids") if isinstance(value, dict) else None
        if not isinstance(ids, list) or len(ids) > MAX_IDS:
            raise ValueError("the input is no batch of notifications")
        if any(type(each) is not int or not -(2**63) <= each < 2**63 for each in ids):
            raise ValueError("the input holds what cannot be the id of a notification")
        return cls(ids)


@dataclass(frozen=True, slots=True)
class ResultCounts:
    """A workflow's result: how its notifications ended. What is in none of the counts was handed back."""

    sent: int = 0
    partial: int = 0
    failed: int = 0

    def __add__(self, other: "ResultCounts") -> "ResultCounts":
        return ResultCounts(self.sent + other.sent, self.partial + other.partial, self.failed + other.failed)
