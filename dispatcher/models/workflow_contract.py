"""Our contract with Temporal: the names of the workflow and its activities, its input and its result.

Both hold only ids and counts, so that no data of a row enters Temporal's histories. The strings are part of old
histories and must not change.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

WORKFLOW = "NotificationDelivery"
DELIVER = "deliver"
GIVE_UP = "give_up"
"""Names under which Temporal knows the workflow and its activities."""
UNSETTLED = "Unsettled"
"""Error type of `deliver`: another try can settle more recipients."""
THROTTLED = "Held"
"""Error type of `deliver`: the run only has to wait, and the wait costs no try."""
BATCH_QUEUE_SUFFIX = "-lane"
IDENTITY_MARK = " of installation "
MAX_IDS = 1000
"""More ids than any version of this package put into one workflow."""


def batch_queue(task_queue: str) -> str:
    """Return the name of the batch queue that belongs to `task_queue`; a batch queue's name is returned unchanged."""
    return task_queue if task_queue.endswith(BATCH_QUEUE_SUFFIX) else task_queue + BATCH_QUEUE_SUFFIX


@dataclass(frozen=True, slots=True)
class TaskQueues:
    """The task queues that one installation polls.

    `first_try`: its own, for all workflows that it starts. `shared`: the name in the setting. Earlier versions and
    other installations may have workflows there. Each of the two has a batch queue.
    """

    first_try: str
    shared: str

    @classmethod
    def of_installation(cls, task_queue: str, installation: UUID) -> "TaskQueues":
        """Return the queues of an installation. `task_queue`: the setting."""
        return cls(f"{task_queue}-{short_id(installation)}", task_queue)

    @property
    def all_names(self) -> tuple[str, ...]:
        """The four names: both queues with their batch queues."""
        return (self.first_try, batch_queue(self.first_try), self.shared, batch_queue(self.shared))


def short_id(installation: UUID) -> str:
    """Return the part of an installation's id that names of queues and identities of workers carry."""
    return installation.hex[:8]


def worker_identity(node: str, installation: UUID) -> str:
    """Return the name under which Temporal lists a worker; `installation_of` reads it."""
    return f"{node}{IDENTITY_MARK}{short_id(installation)}"


def installation_of(identity: str) -> str | None:
    """Return the short id of the installation to which a worker belongs; None for earlier versions and strangers."""
    _, mark, installation = identity.rpartition(IDENTITY_MARK)
    return installation if mark else None


@dataclass(frozen=True, slots=True)
class Batch:
    """A workflow's input: the notifications that it delivers."""

    notification_ids: list[int]

    @classmethod
    def parse(cls, value: Any) -> "Batch":
        """Return `value`, a decoded JSON object, as a batch.

        Raises ValueError if it has another form: any client of the namespace can start a workflow with any input.
        """
        ids = value.get("notification_ids") if isinstance(value, dict) else None
        if not isinstance(ids, list) or len(ids) > MAX_IDS:
            raise ValueError(f"the input is not a batch: notification_ids must be a list of at most {MAX_IDS} ids")
        if any(type(each) is not int or not -(2**63) <= each < 2**63 for each in ids):
            raise ValueError("the input is not a batch: an entry of notification_ids is not a 64-bit integer")
        return cls(ids)


@dataclass(frozen=True, slots=True)
class ResultCounts:
    """A workflow's result: how many notifications ended with each final status. Released rows are in no count."""

    sent: int = 0
    partial: int = 0
    failed: int = 0

    def __add__(self, other: "ResultCounts") -> "ResultCounts":
        return ResultCounts(self.sent + other.sent, self.partial + other.partial, self.failed + other.failed)
