"""Novu's API as one function from call to answer, with the steps in the order of the real server.

Body parser, route, key, rate limit, faults before idempotency, idempotency, faults inside the handler, handler; faults
after the handler damage the answer. If a step before idempotency refuses a call, Novu does not remember the answer and
does not echo the key.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping

from dispatcher.devstack.fake_novu.answers import INTERNAL_ERROR, Answer, Refusal
from dispatcher.devstack.fake_novu.call import FakeCall
from dispatcher.devstack.fake_novu.events import parse, read_events
from dispatcher.devstack.fake_novu.faults import Faults
from dispatcher.devstack.fake_novu.idempotency import IdempotencyStore
from dispatcher.devstack.fake_novu.ledger import EffectLog
from dispatcher.devstack.fake_novu.limits import FakeRateLimiter
from dispatcher.devstack.fake_novu.read_routes import ReadRoutes
from dispatcher.devstack.fake_novu.registry import Environment, Registry
from dispatcher.devstack.fake_novu.settings import Config
from dispatcher.devstack.fake_novu.trigger import TriggerRoutes
from dispatcher.devstack.fake_novu.worker import NovuWorker

Handler = Callable[[FakeCall], Awaitable[Answer]]

OPEN_PATH = "/v1/health-check"
MEBIBYTE = 1024 * 1024


class NovuApi:
    """The state of one fake Novu, and the steps that process a call."""

    def __init__(self, config: Config, api_key: str) -> None:
        self.config = config
        self.registry = Registry(api_key)
        self.ledger = EffectLog()
        self.idempotency = IdempotencyStore(config)
        self.worker = NovuWorker(config, self.registry, self.ledger)
        self.faults = Faults()
        self._limiter = FakeRateLimiter(config)
        triggers = TriggerRoutes(config, self.registry, self.ledger, self.worker)
        reads = ReadRoutes(self.registry, self.ledger, self.worker)
        self._routes: Mapping[tuple[str, str], Handler] = {
            ("POST", "/v1/events/trigger"): triggers.single,
            ("POST", "/v1/events/trigger/bulk"): triggers.bulk,
            ("POST", "/v1/events/trigger/broadcast"): triggers.broadcast,
            ("GET", OPEN_PATH): reads.health_check,
            ("GET", "/v1/environments/me"): reads.environment,
            ("GET", "/v1/notifications"): reads.notifications,
            ("GET", "/v1/messages"): reads.messages,
            ("GET", "/v2/workflows"): reads.workflows,
        }
        self._patterns: tuple[tuple[str, re.Pattern[str], Handler], ...] = (
            ("DELETE", re.compile(r"/v1/events/trigger/[^/]+"), reads.cancel),
            ("DELETE", re.compile(r"/v1/messages/transaction/[^/]+"), reads.delete_messages),
        )

    def clear(self) -> None:
        """Remove what was logged and every fault; registrations and configuration stay."""
        self.ledger.clear()
        self.idempotency.clear()
        self.worker.clear()
        self.faults.rules.clear()
        self._limiter.clear()

    async def answer(self, call: FakeCall) -> Answer:
        """Answer one call and log it."""
        try:
            answer = await self._process(call)
        except Refusal as refusal:
            answer = refusal.answer(call.path, legacy=self.config.legacy)
        answer = answer.adding(*call.rate_headers)
        if call.fault is not None:
            answer = call.fault.damage(answer)
        if call.path != OPEN_PATH:
            self.ledger.record(call.logged(answer), call.body)
        return answer

    async def _process(self, call: FakeCall) -> Answer:
        self._read_body(call)
        handler = self._route(call)
        if call.path != OPEN_PATH:
            call.environment = self._authenticate(call)
            # Before idempotency, so that replays cost tokens too.
            call.rate_headers = self._limiter.spend(call)
            call.fault = self.faults.match(call)
            answer = call.fault.before_idempotency() if call.fault is not None else None
            if answer is not None:
                return answer
        key = call.idempotency_key
        if key is None or not self.config.idempotency or call.method not in ("POST", "PATCH"):
            return await self._handle(call, handler)
        scope = (call.owner.organization, key)
        return await self.idempotency.guard(scope, call.json, lambda: self._handle(call, handler))

    async def _handle(self, call: FakeCall, handler: Handler) -> Answer:
        """Run the handler and the faults inside it. Idempotency remembers every answer from here on."""
        if call.fault is not None:
            call.fault.inside_handler()
            if call.fault.kind == "delay":
                await asyncio.sleep(call.fault.seconds)
        return await handler(call)

    def _read_body(self, call: FakeCall) -> None:
        if len(call.body) > (20 if self.config.legacy else 26) * MEBIBYTE:
            # For 2.0.0 a failure of the body parser is not an HTTP exception, so it becomes a 500.
            raise Refusal(500, INTERNAL_ERROR) if self.config.legacy else Refusal(413, "Payload Too Large")
        if call.method == "POST" and "json" in call.headers.get("content-type", ""):
            call.json = parse(call.body)
            call.events = read_events(call.path, call.json)

    def _route(self, call: FakeCall) -> Handler:
        exact = self._routes.get((call.method, call.path))
        if exact is not None:
            return exact
        for method, pattern, handler in self._patterns:
            if method == call.method and pattern.fullmatch(call.path):
                return handler
        raise Refusal(404, f"Cannot {call.method} {call.path}")

    def _authenticate(self, call: FakeCall) -> Environment:
        header = call.headers.get("authorization")
        if not header:
            raise Refusal(401, "Missing authorization header")
        scheme, _, key = header.partition(" ")
        if scheme == "Bearer" and not self.config.legacy:
            raise Refusal(401, "Unauthorized")
        if scheme != "ApiKey":
            raise Refusal(401, f'Invalid authentication scheme: "{scheme}"')
        environment = self.registry.environments.get(key.strip())
        if environment is None:
            raise Refusal(401, "API Key not found")
        return environment
