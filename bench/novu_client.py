"""novu-py as its users call it, with Dispatcher's timeouts and connection limits: one trigger, one recipient."""

import json
import os

import httpx
from novu_py import Novu
from novu_py.models import TriggerEventRequestDto

from dispatcher.novu.http_client import CONNECT_TIMEOUT_SECONDS, MAX_CONNECTIONS


class Trigger:
    """Triggers Novu for one recipient at a time."""

    def __init__(self) -> None:
        limits = httpx.Limits(
            max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS, keepalive_expiry=30
        )
        timeout = httpx.Timeout(30, connect=CONNECT_TIMEOUT_SECONDS, pool=CONNECT_TIMEOUT_SECONDS)
        self._novu = Novu(
            secret_key=os.environ["NOVU_SECRET_KEY"],
            server_url=os.environ["NOVU_API_URL"],
            async_client=httpx.AsyncClient(limits=limits, timeout=timeout, trust_env=False),
        )

    async def __call__(self, workflow_key: str, recipient: str, payload: str) -> None:
        """Trigger once. Every row has a new recipient, so the recipient identifies the call."""
        identity = f"bench-{recipient}"
        request = TriggerEventRequestDto(
            workflow_id=workflow_key, to=recipient, payload=json.loads(payload), transaction_id=identity
        )
        await self._novu.trigger_async(trigger_event_request_dto=request, idempotency_key=identity, retries=None)
