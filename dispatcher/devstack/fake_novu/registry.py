"""The objects that exist in this Novu before a trigger: keys and environments, workflows, tenants and topics.

All environments share workflows, tenants and topics; each has its own subscribers and jobs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dispatcher.devstack.fake_novu.settings import BadControl

CHANNELS = ("in_app", "email", "sms", "chat", "push")
_EMAIL, _IN_APP, _SMS, _CHAT, _PUSH = "email", "in_app", "sms", "chat", "push"
_FIVE = (_EMAIL, _IN_APP, _SMS, _PUSH, _CHAT)

DEFAULT_WORKFLOWS: Mapping[str, tuple[str, ...]] = {
    "default-email": (_EMAIL,),
    "default-in-app": (_IN_APP,),
    "default-sms": (_SMS,),
    "default-push": (_PUSH,),
    "default-chat": (_CHAT,),
    "default-multi-channel": _FIVE,
    "default-dynamic-multi": _FIVE,
    "default-fire-emergency": _FIVE,
    "default-fire-drill": _FIVE,
    "default-fire-inspection": _FIVE,
    "default-fire-maintenance": (_EMAIL, _IN_APP, _SMS, _PUSH),
    "default-fire-training": (_EMAIL, _IN_APP, _PUSH),
    "default-fire-assessment": (_EMAIL, _IN_APP),
}


@dataclass(frozen=True, slots=True)
class WorkflowStep:
    """One step of a Novu workflow; `seconds` is the duration of a delay step."""

    type: str
    seconds: float = 0.0
    active: bool = True


@dataclass(frozen=True, slots=True)
class NovuWorkflow:
    """A Novu workflow; `running` are its active steps, which a run executes."""

    key: str
    steps: tuple[WorkflowStep, ...]
    active: bool = True
    broken: bool = False  # Novu lists it with status ERROR
    required: tuple[str, ...] = ()  # fields that its payload schema requires
    running: tuple[WorkflowStep, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "running", tuple(step for step in self.steps if step.active))

    def as_json(self) -> dict[str, Any]:
        """Return the form that `workflow_from` reads."""
        steps = [{"type": step.type, "seconds": step.seconds, "active": step.active} for step in self.steps]
        shown = {"key": self.key, "active": self.active, "broken": self.broken, "steps": steps}
        return shown | {"required": list(self.required)}


def workflow_from(data: Any) -> NovuWorkflow:
    """Return the workflow in `{"key", "active"?, "broken"?, "required"?: ["site"], "steps"?: [STEP]}`.

    STEP is a channel or {"type", "seconds"?, "active"?}. Raises BadControl if `data` has another form.
    """
    if not isinstance(data, dict) or not isinstance(data.get("key"), str) or not data["key"]:
        raise BadControl("a workflow needs a key")
    steps: Any = data.get("steps", [_IN_APP])
    required: Any = data.get("required", [])
    if not isinstance(steps, list) or not isinstance(required, list):
        raise BadControl("steps and required must be lists")
    active, broken = bool(data.get("active", True)), bool(data.get("broken", False))
    return NovuWorkflow(data["key"], tuple(map(_step_from, steps)), active, broken, tuple(map(str, required)))


def _step_from(data: Any) -> WorkflowStep:
    given: Any = {"type": data} if isinstance(data, str) else data
    if not isinstance(given, dict) or given.get("type") not in (*CHANNELS, "delay"):
        raise BadControl(f"a step is one of {', '.join(CHANNELS)} or delay")
    return WorkflowStep(given["type"], float(given.get("seconds", 0)), bool(given.get("active", True)))


@dataclass(frozen=True, slots=True)
class Environment:
    """An environment of Novu. Idempotency keys belong to the `organization`, everything else to the `id`."""

    id: str
    name: str
    organization: str

    def as_json(self) -> dict[str, Any]:
        """Return the answer of GET /v1/environments/me."""
        kind = "prod" if self.name == "Production" else "dev"
        names = {"_id": self.id, "name": self.name, "_organizationId": self.organization}
        return names | {"identifier": f"app-{self.id[-8:]}", "type": kind}


class Registry:
    """The environments, Novu workflows, tenants and topics of this fake Novu."""

    def __init__(self, api_key: str) -> None:
        self.environments: dict[str, Environment] = {}
        self.workflows = {
            key: NovuWorkflow(key, tuple(WorkflowStep(channel) for channel in channels))
            for key, channels in DEFAULT_WORKFLOWS.items()
        }
        self.tenants: set[str] = set()
        self.topics: dict[str, set[str]] = {}
        self.add_environment(api_key, "Development")

    def add_environment(self, api_key: str, name: str, organization: str = "") -> Environment:
        """Add and return an environment with its key; by default in the organization of the first one."""
        number = len(self.environments) + 1
        owner = organization or f"{1:08x}{0:016x}"
        self.environments[api_key] = Environment(f"{2:08x}{number:016x}", name, owner)
        return self.environments[api_key]

    def add_workflow(self, workflow: NovuWorkflow) -> None:
        """Create or replace a workflow."""
        self.workflows[workflow.key] = workflow

    def as_json(self) -> dict[str, Any]:
        """Return everything registered, without the API keys."""
        return {
            "environments": [environment.as_json() for environment in self.environments.values()],
            "workflows": [workflow.as_json() for workflow in self.workflows.values()],
            "tenants": sorted(self.tenants),
            "topics": {key: sorted(members) for key, members in self.topics.items()},
        }
