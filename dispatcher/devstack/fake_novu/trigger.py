"""Accepts triggers: finds the status that Novu answers for an event, and queues accepted events, which is an effect.

The status `processed` means queued, nothing more. Duplicate transactionIds are not detected here, but in the worker.
"""

import asyncio
import time
import uuid
from typing import Any

from dispatcher.devstack.fake_novu.answers import INTERNAL_ERROR, Answer, Refusal, success
from dispatcher.devstack.fake_novu.call import FakeCall
from dispatcher.devstack.fake_novu.events import FakeEvent, check_bulk, check_single, item_sentences
from dispatcher.devstack.fake_novu.ledger import EffectLog
from dispatcher.devstack.fake_novu.registry import NovuWorkflow, Registry
from dispatcher.devstack.fake_novu.settings import Config
from dispatcher.devstack.fake_novu.worker import NovuWorker, Queued, queued


class TriggerRoutes:
    """The three trigger endpoints."""

    def __init__(self, config: Config, registry: Registry, ledger: EffectLog, worker: NovuWorker) -> None:
        self._config = config
        self._registry = registry
        self._ledger = ledger
        self._worker = worker

    async def single(self, call: FakeCall) -> Answer:
        """POST /v1/events/trigger."""
        return await self._trigger_one(call, broadcast=False)

    async def broadcast(self, call: FakeCall) -> Answer:
        """POST /v1/events/trigger/broadcast."""
        return await self._trigger_one(call, broadcast=True)

    async def bulk(self, call: FakeCall) -> Answer:
        """POST /v1/events/trigger/bulk: one result per event, in order."""
        check_bulk(call.json, legacy=self._config.legacy)
        await self._spend_time()
        accepted: list[Queued] = []
        results = [self._bulk_result(call, event, accepted) for event in call.events]
        # All accepted events of a call are queued together, as in newer versions.
        self._enqueue(call, accepted)
        return success(results, 201)

    async def _trigger_one(self, call: FakeCall, *, broadcast: bool) -> Answer:
        check_single(call.json, broadcast=broadcast, legacy=self._config.legacy)
        await self._spend_time()
        accepted: list[Queued] = []
        result = self._check_event(call, call.events[0], accepted)
        self._enqueue(call, accepted)
        return success(result, 201)

    async def _spend_time(self) -> None:
        if self._config.latency_ms > 0:
            await asyncio.sleep(self._config.latency_ms / 1000)

    def _bulk_result(self, call: FakeCall, event: FakeEvent, accepted: list[Queued]) -> dict[str, Any]:
        sentences = item_sentences(event, legacy=self._config.legacy)
        if not sentences:
            try:
                return self._check_event(call, event, accepted)
            except Refusal as refusal:
                sentences = [str(refusal.message)]
        return self._result("error", event.transaction_id, sentences)

    def _check_event(self, call: FakeCall, event: FakeEvent, accepted: list[Queued]) -> dict[str, Any]:
        """Return Novu's result for one event; an accepted event is appended to `accepted`."""
        fault = call.fault
        if fault is not None and fault.kind == "item_error" and fault.applies_to(event):
            return self._result(fault.result or "error", event.transaction_id, [fault.message or "Internal error"])
        workflow = self._registry.workflows.get(event.name or "")
        if workflow is None:
            raise Refusal(422, "workflow_not_found")
        transaction_id = event.transaction_id or str(uuid.uuid4())
        status = self._refusal_status(workflow, event)
        if status is not None:
            return self._result(status, transaction_id)
        self._check_payload(workflow, event.payload)
        self._store_attachments(event.payload)
        valid = self._without_refused(event)
        accepted.append(queued(call.owner.id, transaction_id, workflow, valid))
        return self._result("processed", transaction_id)

    def _refusal_status(self, workflow: NovuWorkflow, event: FakeEvent) -> str | None:
        if not workflow.active:
            return "trigger_not_active"
        if self._config.legacy and not workflow.steps:
            return "no_workflow_steps_defined"
        if self._config.legacy and not workflow.running:
            return "no_workflow_active_steps_defined"
        if event.tenant is not None and event.tenant not in self._registry.tenants:
            return "no_tenant_found"
        if event.recipients and not self._without_refused(event).recipients:
            return "invalid_recipients"
        return None

    def _without_refused(self, event: FakeEvent) -> FakeEvent:
        """Return the event without refused recipients: newer versions drop them, and refuse if none is left."""
        refused = self._config.refused_recipients
        if not refused or self._config.legacy:
            return event
        return event._replace(recipients=tuple(entry for entry in event.recipients if entry.name not in refused))

    def _check_payload(self, workflow: NovuWorkflow, payload: Any) -> None:
        """Refuse a payload that does not satisfy the schema of its workflow; here a schema is only required fields."""
        given = payload if isinstance(payload, dict) else {}
        missing = next((name for name in workflow.required if name not in given), None)
        if missing is not None:
            sentence = f"root.{missing}: must have required property '{missing}'"
            raise Refusal(400, f"Payload validation failed: {sentence}")

    def _store_attachments(self, payload: Any) -> None:
        if not self._config.object_storage and isinstance(payload, dict) and payload.get("attachments"):
            raise Refusal(500, INTERNAL_ERROR)

    def _result(self, status: str, transaction_id: str | None, error: list[str] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = {"acknowledged": True, "status": status}
        if error is not None:
            result["error"] = error
        if transaction_id is not None and (status == "processed" or not self._config.legacy):
            result["transactionId"] = transaction_id
        return result

    def _enqueue(self, call: FakeCall, accepted: list[Queued]) -> None:
        """Count the effects of the accepted events, and pass them to the worker."""
        at = time.time()
        for item in accepted:
            for recipient in item.recipients:
                self._ledger.accepted((item.environment, item.transaction_id, recipient.name), item.workflow.key, at)
            call.effects += len(item.recipients)
        self._worker.submit(accepted)
