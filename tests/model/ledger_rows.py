"""The rows of the model: the outbox, `dispatcher.delivery` and `dispatcher.recipient`."""

from dataclasses import dataclass


@dataclass
class Row:
    """A row of the outbox."""

    id: int
    birth: str
    recipients: list[str | None]
    payload: str = '{"title": "Lift"}'
    has_workflow: bool = True
    enterprise: str | None = None
    status: str = "PENDING"
    published: bool = True
    deactivated: bool = False
    due: float | None = None
    has_outcome: bool = False
    """Whether we wrote `error_details`."""

    def eligible(self, now: float) -> bool:
        """Whether the row may be sent."""
        return self.published and not self.deactivated and (self.due is None or self.due <= now)


@dataclass
class Head:
    """A row of dispatcher.delivery."""

    id: int
    birth: str
    first_claimed: float
    generation: int = 1
    fence: int = 1
    batch: str | None = None
    attempts: int = 0
    owner: str | None = None
    lease: float | None = None
    next_attempt: float | None = None
    settled: bool = False
    dead: bool = False
    recipient_count: int | None = 0
    first_generation: int = 1
    outcome: str | None = None
    """The status of the generation's outcome."""
    put_back_in: int | None = None
    """The generation whose status was put back."""

    @property
    def workflow_id(self) -> str:
        """Name the workflow that carries the row."""
        if self.batch is not None:
            return f"notifications-{self.batch}"
        return f"notification-{self.id}-{self.birth}-{self.generation}"


@dataclass
class Entry:
    """A row of dispatcher.recipient."""

    ordinal: int
    transaction: str
    first_call: float
    last_call: float = 0
    epoch: int = 0
    key: str | None = None
    place: int | None = None
    body_hash: str | None = ""
    state: str = "planned"
    attempts: int = 0
    outcome: str | None = None
    error: str | None = None
