"""The routes that read and cancel: activity, messages, workflows, environment.

Ids are computed from the object they belong to, so the same object always has the same id. The shapes are those of
3.19.0, which novu-py parses; payloads are empty, because the worker does not keep them.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from dispatcher.devstack.fake_novu.answers import Answer, Refusal, iso, page, success
from dispatcher.devstack.fake_novu.call import FakeCall
from dispatcher.devstack.fake_novu.ledger import EffectLog
from dispatcher.devstack.fake_novu.registry import NovuWorkflow, Registry
from dispatcher.devstack.fake_novu.runs import Run
from dispatcher.devstack.fake_novu.worker import NovuWorker

PAGE_SIZE = 10


class ReadRoutes:
    """The handlers of all routes except the triggers."""

    def __init__(self, registry: Registry, ledger: EffectLog, worker: NovuWorker) -> None:
        self._registry = registry
        self._ledger = ledger
        self._worker = worker

    async def health_check(self, call: FakeCall) -> Answer:  # noqa: ARG002  (every handler takes the call)
        """GET /v1/health-check, without a key."""
        parts = {"db": {"status": "up"}, "workflowQueue": {"status": "up"}}
        return success({"status": "ok", "info": parts | {"apiVersion": {"version": "fake", "status": "up"}}})

    async def environment(self, call: FakeCall) -> Answer:
        """GET /v1/environments/me: the environment of the key."""
        return success(call.owner.as_json())

    async def workflows(self, call: FakeCall) -> Answer:
        """GET /v2/workflows: the list only."""
        known = list(self._registry.workflows.values())
        size, offset = _number(call.query, "limit", PAGE_SIZE), _number(call.query, "offset", 0)
        rows = [_workflow(workflow) for workflow in known[offset : offset + size]]
        return success({"workflows": rows, "totalCount": len(known)})

    async def cancel(self, call: FakeCall) -> Answer:
        """DELETE /v1/events/trigger/{transactionId}: true only if a run was waiting in a delay step."""
        canceled = self._worker.runs.cancel(call.owner.id, _last_segment(call.path))
        self._record_cancelled(canceled)
        return success(bool(canceled))

    async def notifications(self, call: FakeCall) -> Answer:
        """GET /v1/notifications: one run for each subscriber, with its jobs."""
        return _page([_notification(run, call.owner.organization) for run in self._runs(call)], call.query)

    async def messages(self, call: FakeCall) -> Answer:
        """GET /v1/messages: the messages sent on each channel."""
        organization = call.owner.organization
        rows = [_message(run, name, organization) for run in self._runs(call) for name in run.messages]
        channel = call.query.get("channel")
        wanted = [row for row in rows if channel in (None, row["channel"])]
        return _page(wanted, call.query, totalCount=len(wanted))

    async def delete_messages(self, call: FakeCall) -> Answer:
        """DELETE /v1/messages/transaction/{transactionId}: 404 if there are none."""
        channel = call.query.get("channel")
        cleared = self._worker.runs.delete_messages(call.owner.id, _last_segment(call.path), channel)
        if not cleared:
            raise Refusal(404, "Invalid transactionId or channel")
        self._record_cancelled(cleared)
        return Answer(204, b"")

    def _record_cancelled(self, runs: list[Run]) -> None:
        for run in runs:
            self._ledger.cancelled((run.environment, run.transaction_id, run.subscriber), run.workflow.key)

    def _runs(self, call: FakeCall) -> Iterator[Run]:
        wanted = call.query.get("transactionId")
        runs = self._worker.runs
        found = runs.all(call.owner.id) if wanted is None else iter(runs.find(call.owner.id, wanted))
        subscriber = call.query.get("subscriberIds") or call.query.get("subscriberId")
        return (run for run in found if subscriber in (None, run.subscriber))


def _last_segment(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def _number(query: Mapping[str, str], name: str, default: int) -> int:
    # novu-py writes numbers as 1.0
    try:
        return max(0, int(float(query.get(name, default))))
    except (ValueError, OverflowError) as error:
        raise Refusal(400, [f"{name} must be an integer number"]) from error


def _page(rows: list[dict[str, Any]], query: Mapping[str, str], **more: Any) -> Answer:
    number, size = _number(query, "page", 0), _number(query, "limit", PAGE_SIZE) or PAGE_SIZE
    return page(rows[number * size : (number + 1) * size], number, size, len(rows), **more)


def _id(kind: int, number: int) -> str:
    return f"{kind:08x}{number:016x}"


def _common(run: Run, organization: str) -> dict[str, Any]:
    created = iso(datetime.fromtimestamp(run.created, UTC))
    return {
        "_environmentId": run.environment,
        "_organizationId": organization,
        "_subscriberId": _id(4, run.number),
        "transactionId": run.transaction_id,
        "createdAt": created,
        "updatedAt": created,
    }


def _notification(run: Run, organization: str) -> dict[str, Any]:
    key = run.workflow.key
    trigger: dict[str, Any] = {"type": "event", "identifier": key, "variables": []}
    return _common(run, organization) | {
        "_id": _id(3, run.number),
        "_templateId": _id(10, run.number),
        "channels": [step.type for step in run.workflow.running],
        "subscriber": {"_id": _id(4, run.number), "subscriberId": run.subscriber},
        "to": {"subscriberId": run.subscriber},
        "template": {"name": key, "triggers": [trigger]},
        "payload": {},
        "topics": [],
        "tags": [],
        "contextKeys": [],
        "severity": "none",
        "critical": False,
        "jobs": [_job(run, index, *job) for index, job in enumerate(run.jobs())],
    }


def _job(run: Run, index: int, kind: str, status: str) -> dict[str, Any]:
    number = run.number * 16 + index
    detail = {"_id": _id(6, number), "status": "Success", "detail": "Step queued", "source": "Internal"}
    flags = {"isRetry": False, "isTest": False}
    return {
        "_id": _id(5, number),
        "type": kind,
        "status": status,
        "providerId": "novu",
        "payload": {},
        "executionDetails": [detail | flags],
        "step": {"_id": _id(7, index), "active": True, "filters": [], "_templateId": _id(8, index)},
    }


def _message(run: Run, channel: str, organization: str) -> dict[str, Any]:
    return _common(run, organization) | {
        "_id": _id(
            9, run.number * 16 + run.workflow.running.index(next(s for s in run.workflow.running if s.type == channel))
        ),
        "_notificationId": _id(3, run.number),
        "templateIdentifier": run.workflow.key,
        "channel": channel,
        "status": "sent",
        "read": False,
        "seen": False,
        "cta": {},
    }


def _workflow(workflow: NovuWorkflow) -> dict[str, Any]:
    status = "ERROR" if workflow.broken else "ACTIVE" if workflow.active else "INACTIVE"
    steps = [{"slug": f"step-{number}", "type": step.type, "issues": {}} for number, step in enumerate(workflow.steps)]
    names = {"workflowId": workflow.key, "name": workflow.key, "slug": workflow.key, "status": status}
    return names | {"steps": steps, "stepTypeOverviews": [step.type for step in workflow.steps]}
