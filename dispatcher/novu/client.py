"""The gateway to Novu, on its own SDK. Every call ends as one outcome per event; no exception of the SDK leaves here.

The SDK's retries are off and its automatic Idempotency-Key is replaced by ours. Payload and overrides go over the
wire as the JSON text that PostgreSQL gave us: the SDK's models would drop override keys they do not know, and Python
would round numbers.
"""

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
from novu_py import Novu
from novu_py.models import BulkTriggerEventDto, NoResponseError, NovuError, TriggerEventRequestDto

from dispatcher.decisions.cancellation import STOPPED, classify_cancel
from dispatcher.decisions.classification import classify, classify_lookup, sanitized
from dispatcher.models.call_result import AnswerClass, CallResult, TriggerEvent
from dispatcher.models.errors import Unreachable
from dispatcher.novu.circuit_breaker import CircuitBreaker
from dispatcher.novu.rate_limit import RateLimiter
from dispatcher.telemetry import metrics
from dispatcher.telemetry.logs import get_logger

MAX_CONNECTIONS = 100
CONNECT_TIMEOUT_SECONDS = 5
PROBE_TIMEOUT_SECONDS = 10

log = get_logger("novu_client")


@dataclass(slots=True)
class RequestContext:
    """One request on its way: the JSON texts to put into its body, and the answer that came."""

    texts: list[str] = field(default_factory=list[str])
    response: httpx.Response | None = None


class RawJsonClient(httpx.AsyncClient):
    """The SDK's HTTP client: fills our JSON texts into the body the SDK made, and keeps the raw answer."""

    def __init__(self) -> None:
        super().__init__(
            limits=httpx.Limits(
                max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS, keepalive_expiry=30
            ),
            timeout=httpx.Timeout(30, connect=CONNECT_TIMEOUT_SECONDS, pool=CONNECT_TIMEOUT_SECONDS),
            follow_redirects=False,  # a redirect would carry the key to another host
            trust_env=False,  # no proxy of the environment; a private CA is named by SSL_CERT_FILE or SSL_CERT_DIR
            verify=httpx.create_ssl_context(),
        )
        self._exchange: ContextVar[RequestContext] = ContextVar("exchange")
        # Nobody who writes payloads can know the mark, so none of them can contain it.
        self._mark = secrets.token_hex(16)
        self._marked = re.compile(rf'\{{"layoutIdentifier":"{self._mark}-(\d+)"\}}')

    @contextmanager
    def exchange(self) -> Generator[RequestContext]:
        """Tie the texts and the answer of one SDK call together."""
        exchange = RequestContext()
        token = self._exchange.set(exchange)
        try:
            yield exchange
        finally:
            self._exchange.reset(token)

    def placeholder(self, exchange: RequestContext, text: str) -> dict[str, str]:
        """Return an object the SDK's models let pass, in whose place `text` will stand."""
        exchange.texts.append(text)
        return {"layoutIdentifier": f"{self._mark}-{len(exchange.texts) - 1}"}

    def build_request(self, *args: Any, **kwargs: Any) -> httpx.Request:
        """Build the SDK's request with our texts in place."""
        content = kwargs.get("content")
        if isinstance(content, str):
            texts = self._exchange.get().texts
            kwargs["content"] = self._marked.sub(lambda match: texts[int(match[1])], content)
        return super().build_request(*args, **kwargs)

    async def send(self, request: httpx.Request, **kwargs: Any) -> httpx.Response:
        """Send and keep the answer."""
        endpoint, status = endpoint_of(request), "none"
        try:
            with metrics.NOVU_SECONDS.labels(endpoint).time():
                response = await super().send(request, **kwargs)
            status = f"{response.status_code // 100}xx"
        finally:
            metrics.NOVU_REQUESTS.labels(endpoint, status).inc()
        self._exchange.get().response = response
        return response


class NovuClient:
    """Novu, for one environment. One instance per process. `texts`: whether outcomes may repeat what Novu said, which
    can repeat values of a payload."""

    def __init__(self, secret_key: str, url: str, *, keep_error_texts: bool = True) -> None:
        self._keep_error_texts = keep_error_texts
        self.breaker = CircuitBreaker(self.is_available)
        self.rate_limiter = RateLimiter()
        self.idempotency_on: bool | None = None
        """Whether Novu's idempotency is on: it echoes our key then. None: no success has told us yet."""
        self._url = url.rstrip("/")
        self._authorized = {"authorization": f"ApiKey {secret_key}"}
        self._wire = RawJsonClient()
        self._unused = httpx.Client()  # given, so that the SDK makes none of its own
        self._sdk = Novu(secret_key=secret_key, server_url=self._url, async_client=self._wire, client=self._unused)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._wire.aclose()
        self._unused.close()

    async def check_reachable(self) -> None:
        """Raise `Unreachable` unless something like Novu answers at the address."""
        try:
            with self._wire.exchange():
                answer = await self._wire.get(f"{self._url}/v1/health-check", timeout=10)
        except (httpx.HTTPError, httpx.InvalidURL, ExceptionGroup) as error:  # the last: a port past 65535
            raise Unreachable(
                f"NOVU_API_URL: {self._url} does not answer ({error_text(error)}). Is the address right?"
            ) from error
        if answer.status_code != 200:
            raise Unreachable(
                f"NOVU_API_URL: {self._url} answers HTTP {answer.status_code} to a health check; is it Novu?"
            )

    async def trigger(self, events: Sequence[TriggerEvent], key: str, within: float) -> list[CallResult]:
        """Trigger the events in one request `within` seconds and return what became of each, in order."""
        with self._wire.exchange() as exchange:
            requests = [self._request(exchange, event) for event in events]
            outcome = await self._call(requests, key, within)
            if outcome is not None:
                return [outcome] * len(events)
            response = exchange.response
        if response is None:
            return [CallResult(AnswerClass.UNKNOWN, "no_answer", "no answer")] * len(events)
        headers = lowercase_names(response.headers)
        self.rate_limiter.update_from(response.status_code, headers)
        answers = classify(response.status_code, headers, response.content, len(events), bulk=len(events) > 1)
        outcomes = [self._redacted(answer) for answer in answers]
        for outcome in outcomes:
            metrics.NOVU_TRIGGERS.labels(outcome.answer_class).inc()
        self._update_breaker(outcomes)
        if any(outcome.answer_class is AnswerClass.ACCEPTED for outcome in outcomes):
            self._record_idempotency(echo="idempotency-key" in headers)
        return outcomes

    async def look_up(self, event: TriggerEvent, within: float) -> CallResult:
        """Ask whether a run came of an earlier trigger: ACCEPTED, or RETRY when there is none.

        Not through the SDK: its `notifications.list` warns that it is deprecated, and its models fail on what they do
        not know.
        """
        try:
            answer = await self._get("/v1/notifications", within, transactionId=event.transaction_id)
        except (httpx.HTTPError, TimeoutError) as error:
            return CallResult(AnswerClass.UNKNOWN, "look_up_failed", f"Novu could not be asked: {error_text(error)}")
        outcome = classify_lookup(answer.status_code, lowercase_names(answer.headers), answer.content, event.recipient)
        outcome = self._redacted(outcome)
        self._update_breaker([outcome])
        return outcome

    async def cancel(self, transaction_id: str, within: float) -> CallResult:
        """Stop what waits at Novu for a transactionId, and remove the messages it shows already."""
        stopped = await self._delete(self._sdk.cancel_async, transaction_id, within)
        if stopped.answer_class is not AnswerClass.ACCEPTED:
            return stopped
        removed = await self._delete(self._sdk.messages.delete_by_transaction_id_async, transaction_id, within)
        return stopped if removed.answer_class is AnswerClass.ACCEPTED and stopped.code == STOPPED else removed

    async def _delete(self, method: Callable[..., Awaitable[Any]], transaction_id: str, within: float) -> CallResult:
        """Make one of the SDK's DELETEs and read the answer ourselves."""
        with self._wire.exchange() as exchange:
            try:
                async with asyncio.timeout(within):
                    # Without a key of ours the SDK would send a random one.
                    await method(
                        transaction_id=transaction_id, idempotency_key=f"cancel-{transaction_id}", retries=None
                    )
            except (NovuError, NoResponseError, RecursionError, httpx.HTTPError, TimeoutError) as error:
                if exchange.response is None:
                    return CallResult(
                        AnswerClass.RETRY, "cancel_failed", f"Novu could not be asked: {error_text(error)}"
                    )
            response = exchange.response
        if response is None:
            return CallResult(AnswerClass.RETRY, "cancel_failed", "no answer")
        outcome = self._redacted(
            classify_cancel(response.status_code, lowercase_names(response.headers), response.content)
        )
        self._update_breaker([outcome])
        return outcome

    async def is_available(self) -> bool:
        """Return whether Novu is there and takes our key."""
        try:
            answer = await self._get("/v1/environments/me", PROBE_TIMEOUT_SECONDS)
        except (httpx.HTTPError, TimeoutError):
            return False
        return answer.status_code == 200

    async def _get(self, path: str, within: float, **parameters: str) -> httpx.Response:
        """Read something with our key."""
        with self._wire.exchange():
            async with asyncio.timeout(within):
                return await self._wire.get(f"{self._url}{path}", params=parameters, headers=self._authorized)

    def _redacted(self, outcome: CallResult) -> CallResult:
        """Return the outcome of an answer as it may be stored and logged."""
        return outcome if self._keep_error_texts else replace(outcome, detail=outcome.code)

    def _update_breaker(self, outcomes: Sequence[CallResult]) -> None:
        """Shut the gate when the answer was meant for all of us."""
        for outcome in outcomes:
            if outcome.answer_class is AnswerClass.ACCOUNT_ERROR:
                self.breaker.trip(outcome.detail)
            elif outcome.answer_class is AnswerClass.ACCEPTED and outcome.code == "processed":
                self.breaker.record_success()

    def _record_idempotency(self, *, echo: bool) -> None:
        """Learn from a success whether Novu minds our keys."""
        if not echo and self.idempotency_on is not False:
            log.warning(
                "novu_idempotency_off",
                effect="calls with an unknown outcome are looked up before they are repeated: a weaker promise",
            )
        self.idempotency_on = echo

    async def _call(self, requests: list[TriggerEventRequestDto], key: str, within: float) -> CallResult | None:
        """Make the SDK's call; return an outcome only when there was no answer to read one from."""
        try:
            # The SDK and httpx bound each phase; this bounds the whole, so a trickling answer ends too.
            async with asyncio.timeout(within):
                if len(requests) == 1:
                    await self._sdk.trigger_async(
                        trigger_event_request_dto=requests[0], idempotency_key=key, retries=None
                    )
                else:
                    await self._sdk.trigger_bulk_async(
                        bulk_trigger_event_dto=BulkTriggerEventDto(events=requests), idempotency_key=key, retries=None
                    )
        except (NovuError, RecursionError):
            return None  # the SDK could not make sense of the answer; we read it ourselves
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            return CallResult(AnswerClass.RETRY, "not_sent", f"Novu could not be reached: {error_text(error)}")
        except TimeoutError:
            return CallResult(AnswerClass.UNKNOWN, "timeout", f"no answer within {within:g} s")
        except (httpx.HTTPError, NoResponseError) as error:
            return CallResult(AnswerClass.UNKNOWN, "connection_lost", f"the connection broke: {error_text(error)}")
        return None

    def _request(self, exchange: RequestContext, event: TriggerEvent) -> TriggerEventRequestDto:
        overrides = None if event.overrides is None else self._wire.placeholder(exchange, event.overrides)
        return TriggerEventRequestDto(
            workflow_id=event.workflow_key,
            to=event.recipient,
            payload=self._wire.placeholder(exchange, event.payload),
            overrides=overrides,  # pyright: ignore[reportArgumentType]  (pydantic turns the mapping into the SDK's model)
            transaction_id=event.transaction_id,
        )


def endpoint_of(request: httpx.Request) -> str:
    """Return what a request is for, in one of a few words."""
    if request.method == "DELETE":
        return "cancel"
    return "read" if request.method == "GET" else "bulk" if request.url.path.endswith("/bulk") else "trigger"


def lowercase_names(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers with lower-case names."""
    return {name.lower(): value for name, value in headers.items()}


def error_text(error: Exception) -> str:
    """Return an error of the HTTP client as one line."""
    return sanitized(f"{type(error).__name__} {error}")
