"""The settings of the fake Novu, which can be changed while it runs.

`POST /_standin/config`, `FakeNovu.configure()` and the command line all use the names of these fields.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

VARIANTS = ("3.19.0", "2.0.0")


class BadControl(ValueError):
    """A control request that is not valid; the message is the reason."""


@dataclass(slots=True)
class Config:
    """The behaviour of this fake Novu. Durations without a unit in their name are in seconds."""

    variant: str = VARIANTS[0]
    idempotency: bool = True
    idempotency_store_down: bool = False  # Novu without its Redis: 503, and the call has no effect
    replay_errors_as_500: bool = False  # read from a source between 2.0.0 and 3.19.0, not observed
    idempotency_ttl: float = 24 * 3600.0
    idempotency_progress_ttl: float = 300.0
    object_storage: bool = True  # without it, a payload with attachments gets a 500, which is remembered under the key
    latency_ms: float = 0.0
    rate_limit: float = 0.0  # triggers per second and environment; 0 is off for every call, as in a self-hosted Novu
    worker_paused: bool = False
    worker_delay_ms: float = 10.0  # between "no job with this transactionId yet" and the stored job
    worker_concurrency: int = 200
    refused_recipients: tuple[str, ...] = ()

    def change(self, wanted: Mapping[str, Any]) -> None:
        """Change the settings in `wanted`; BadControl if one of them is not valid, and then none is changed."""
        types = {field.name: type(getattr(self, field.name)) for field in fields(self)}
        accepted = {name: _fitting(name, value, types) for name, value in wanted.items()}
        if accepted.get("variant", self.variant) not in VARIANTS:
            raise BadControl(f"variant must be one of {', '.join(VARIANTS)}")
        for name, value in accepted.items():
            setattr(self, name, value)

    @property
    def legacy(self) -> bool:
        """Whether to behave as the observed version 2.0.0 where 3.19.0, the default, differs."""
        return self.variant == "2.0.0"

    def as_json(self) -> dict[str, Any]:
        """Return every field by name."""
        return asdict(self)


def _fitting(name: str, value: Any, types: Mapping[str, type]) -> Any:
    wanted = types.get(name)
    if wanted is None:
        raise BadControl(f"unknown setting {name!r}; known: {', '.join(types)}")
    if wanted is tuple and isinstance(value, list):
        return tuple(str(item) for item in value)
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    # For isinstance a bool is an int; as a setting it is not.
    if type(value) is not wanted:
        raise BadControl(f"{name} must be of type {wanted.__name__}")
    return value
