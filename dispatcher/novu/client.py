"""The client for Novu, on its SDK novu-py. A trigger returns one `CallResult` for each event and raises no SDK error.

The SDK's retries are off, because each of them would carry a new Idempotency-Key; we set our own key. The SDK builds
address, headers and security of a request. The body is ours (`request_body.py`): payload and overrides are sent as the
JSON text that PostgreSQL returned, because Python would round numbers.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import httpx
from novu_py import Novu
from novu_py.models import NoResponseError, NovuError

from dispatcher.decisions.cancellation import NOTHING_THERE, STOPPED, classify_cancel, classify_runs
from dispatcher.decisions.classification import call_refusal, classify, classify_lookup, sanitized
from dispatcher.models.call_result import AnswerClass, CallResult, TriggerEvent
from dispatcher.models.errors import Unreachable
from dispatcher.novu.circuit_breaker import CircuitBreaker
from dispatcher.novu.http_client import AnswerTooLarge, RawJsonClient
from dispatcher.novu.rate_limit import RateLimiter
from dispatcher.novu.request_body import BULK_STAND_IN, STAND_IN, body_text
from dispatcher.telemetry import metrics
from dispatcher.telemetry.logs import get_logger
from dispatcher.telemetry.redaction import hide_values

PROBE_TIMEOUT_SECONDS = 10
KEY_PROBE_TIMEOUT_SECONDS = 2
"""Short, because a local activity may wait for it."""
KEYS_KNOWN_SECONDS = 24 * 3600.0
"""So long after the last answer that told it, it counts as unknown again whether Novu honours keys."""
RATE_LIMITED = "Novu's rate limit left no room for the request"

log = get_logger("novu_client")


class NovuClient:
    """The client for one environment of Novu. One instance per process.

    `keep_error_texts`: whether results may quote Novu's messages, which can contain values of a payload.
    """

    def __init__(self, secret_key: str, url: str, *, keep_error_texts: bool = True) -> None:
        self._keep_error_texts = keep_error_texts
        self.breaker = CircuitBreaker(self.accepts_triggers, check_health=self.is_available)
        self.rate_limiter = RateLimiter()
        """Of the category `trigger`: triggers, and cancels of their runs."""
        self._read_limiter = RateLimiter()
        """Of the category `global`: look-ups, and the deletion of messages."""
        self.idempotency_on: bool | None = None
        """Whether Novu honours idempotency keys; it echoes the key if so. None: no answer has told it yet."""
        self._keys_told_at = 0.0
        self._url = url.rstrip("/")
        self._authorized = {"authorization": f"ApiKey {secret_key}"}
        self._wire = RawJsonClient()
        self._unused = httpx.Client()  # otherwise the SDK would create one of its own
        self._sdk = Novu(secret_key=secret_key, server_url=self._url, async_client=self._wire, client=self._unused)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._wire.aclose()
        self._unused.close()

    async def check_reachable(self) -> None:
        """Raise `Unreachable` unless the address answers Novu's health check with 200."""
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_SECONDS):
                with self._wire.exchange():
                    answer = await self._wire.get(f"{self._url}/v1/health-check")
        # A port above 65535 raises an ExceptionGroup.
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ExceptionGroup) as error:
            raise Unreachable(
                f"NOVU_API_URL: {self._url} does not answer ({error_text(error)}). Is the address right?"
            ) from error
        if answer.status_code != 200:
            raise Unreachable(
                f"NOVU_API_URL: {self._url} answers HTTP {answer.status_code} to a health check; is it Novu?"
            )

    async def trigger(self, events: Sequence[TriggerEvent], key: str, within: float) -> list[CallResult]:
        """Trigger the events in one request and return one result for each, in order.

        `key`: the Idempotency-Key. Without an answer `within` seconds the results are UNKNOWN.
        """
        with self._wire.exchange(body_text(events)) as exchange:
            failure = await self._call(key, within, bulk=len(events) > 1)
            if failure is not None:
                return [failure] * len(events)
            response = exchange.response
        if response is None:
            return [CallResult(AnswerClass.UNKNOWN, "no_answer", "no answer")] * len(events)
        headers = lowercase_names(response.headers)
        self.rate_limiter.update_from(response.status_code, headers)
        answers = classify(response.status_code, headers, body_of(response), len(events), bulk=len(events) > 1)
        results = await self._judged([self._redacted(answer) for answer in answers])
        for result in results:
            metrics.NOVU_TRIGGERS.labels(result.answer_class).inc()
        echo = "idempotency-key" in headers
        if echo or any(result.answer_class is AnswerClass.ACCEPTED for result in results):
            self._record_idempotency(echo=echo)
        return results

    async def honours_keys(self) -> bool:
        """Return whether an answer has told that Novu honours idempotency keys. Ask if none has told anything.

        Called when an outcome is unknown. Novu refuses the empty trigger that asks, and echoes its key if it honours
        keys.
        """
        if time.monotonic() - self._keys_told_at > KEYS_KNOWN_SECONDS:
            self.idempotency_on = None
        if self.idempotency_on is None:
            echo = f"dispatcher-probe-{secrets.token_hex(16)}"
            with contextlib.suppress(httpx.HTTPError, TimeoutError):
                asked = {**self._authorized, "idempotency-key": echo}
                with self._wire.exchange():
                    async with asyncio.timeout(KEY_PROBE_TIMEOUT_SECONDS):
                        answer = await self._wire.post(f"{self._url}/v1/events/trigger", json={}, headers=asked)
                told = answer.headers.get("idempotency-key") == echo
                if told or answer.status_code in (400, 422):
                    self._record_idempotency(echo=told)
        return self.idempotency_on is True

    async def look_up(self, event: TriggerEvent, within: float) -> CallResult:
        """Ask Novu whether an earlier trigger has a run. ACCEPTED: it has; RETRY: it has none; UNKNOWN: unclear.

        Not through the SDK: its `notifications.list` warns that it is deprecated, and its models reject unknown values.
        """
        if not await self._read_limiter.acquire(1, within):
            return CallResult(AnswerClass.UNKNOWN, "look_up_failed", RATE_LIMITED)
        try:
            answer = await self._ask("GET", "/v1/notifications", within, params={"transactionId": event.transaction_id})
        except (httpx.HTTPError, TimeoutError) as error:
            return CallResult(AnswerClass.UNKNOWN, "look_up_failed", f"Novu could not be asked: {error_text(error)}")
        headers = lowercase_names(answer.headers)
        self._read_limiter.update_from(answer.status_code, headers)
        result = classify_lookup(answer.status_code, headers, body_of(answer), event.recipient)
        result = self._redacted(result)
        if result.answer_class is AnswerClass.ACCOUNT_ERROR and not await self.breaker.confirm(result):
            return replace(result, answer_class=AnswerClass.UNKNOWN, code="look_up_failed")
        return result

    async def cancel(self, transaction_id: str, within: float) -> CallResult:
        """Cancel a trigger: stop its run's waiting steps, then delete the messages already shown.

        ACCEPTED: Novu did it, or has ended the run and nothing is left of it. `within`: seconds for each request.
        """
        taken_back = await self._take_back(transaction_id, within)
        if taken_back != CallResult(AnswerClass.ACCEPTED, NOTHING_THERE):
            return taken_back
        try:
            answer = await self._ask("GET", "/v1/notifications", within, params={"transactionId": transaction_id})
        except (httpx.HTTPError, TimeoutError) as error:
            return CallResult(AnswerClass.RETRY, "cancel_failed", f"Novu could not be asked: {error_text(error)}")
        state = self._redacted(classify_runs(answer.status_code, lowercase_names(answer.headers), answer.content))
        # The run may have come after the first requests.
        return await self._take_back(transaction_id, within) if state.answer_class is AnswerClass.ACCEPTED else state

    async def _take_back(self, transaction_id: str, within: float) -> CallResult:
        """Make the two requests of a cancel."""
        stopped = await self._delete(self._sdk.cancel_async, transaction_id, within, self.rate_limiter)
        if stopped.answer_class is not AnswerClass.ACCEPTED:
            return stopped
        remove = self._sdk.messages.delete_by_transaction_id_async
        removed = await self._delete(remove, transaction_id, within, self._read_limiter)
        return stopped if removed.answer_class is AnswerClass.ACCEPTED and stopped.code == STOPPED else removed

    async def _delete(
        self, method: Callable[..., Awaitable[Any]], transaction_id: str, within: float, limiter: RateLimiter
    ) -> CallResult:
        """Call `method`, one of the SDK's DELETE requests, within its rate limit, and classify the raw answer."""
        if not await limiter.acquire(1, within):
            return CallResult(AnswerClass.RETRY, "cancel_failed", RATE_LIMITED)
        with self._wire.exchange() as exchange:
            try:
                async with asyncio.timeout(within):
                    # Without our key the SDK would send a random one.
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
        headers = lowercase_names(response.headers)
        # Not every Novu counts a DELETE, so one without headers says nothing about the limit of triggers.
        if response.status_code == 429 or "ratelimit-policy" in headers:
            limiter.update_from(response.status_code, headers)
        result = self._redacted(classify_cancel(response.status_code, headers, body_of(response)))
        [result] = await self._judged([result])
        return result

    async def is_available(self) -> bool:
        """Return whether Novu answers and accepts our key."""
        return await self._probe("GET", "/v1/environments/me") == 200

    async def accepts_triggers(self) -> bool:
        """Return whether Novu takes our key, and refuses an empty trigger, which has no effect, only as invalid."""
        status = await self._probe("POST", "/v1/events/trigger", json={}) if await self.is_available() else 0
        return 200 <= status < 500 and status not in (401, 402, 403, 404)

    async def _probe(self, method: str, path: str, **more: Any) -> int:
        """Return the HTTP status of the answer to a request with our key; 0: there was no answer."""
        try:
            return (await self._ask(method, path, PROBE_TIMEOUT_SECONDS, **more)).status_code
        except (httpx.HTTPError, TimeoutError):
            return 0

    async def _ask(self, method: str, path: str, within: float, **more: Any) -> httpx.Response:
        """Send a request with our key. Raises httpx.HTTPError or TimeoutError."""
        with self._wire.exchange():
            async with asyncio.timeout(within):
                return await self._wire.request(method, f"{self._url}{path}", headers=self._authorized, **more)

    def _redacted(self, result: CallResult) -> CallResult:
        """Return a result as it may be stored and logged: without Novu's text unless that is allowed."""
        return result if self._keep_error_texts else replace(result, detail=result.code)

    async def _judged(self, results: list[CallResult]) -> list[CallResult]:
        """Tell the circuit breaker the results of one call. Return them; an account error that it did not confirm is
        the call's own."""
        if any(result.code == "processed" for result in results):
            self.breaker.record_success()
        first = results[0]  # an account error is the same for every event
        if first.answer_class is AnswerClass.ACCOUNT_ERROR and not await self.breaker.confirm(first):
            return [call_refusal(first, len(results))] * len(results)
        return results

    def _record_idempotency(self, *, echo: bool) -> None:
        """Record from an answer whether Novu honours idempotency keys: it echoes the key only if it does."""
        if not echo and self.idempotency_on is not False:
            log.warning(
                "novu_idempotency_off",
                effect="calls with an unknown outcome are looked up before they are repeated, a weaker promise",
            )
        self.idempotency_on, self._keys_told_at = echo, time.monotonic()

    async def _call(self, key: str, within: float, *, bulk: bool) -> CallResult | None:
        """Make the SDK's call. Return a result only if there is no answer to classify, else None."""
        try:
            # The only limit of a call: a trickling answer ends too, and the cancelled request closes its connection.
            async with asyncio.timeout(within):
                if bulk:
                    await self._sdk.trigger_bulk_async(
                        bulk_trigger_event_dto=BULK_STAND_IN, idempotency_key=key, retries=None
                    )
                else:
                    await self._sdk.trigger_async(trigger_event_request_dto=STAND_IN, idempotency_key=key, retries=None)
        except (NovuError, RecursionError):
            return None  # the SDK could not parse the answer; the caller classifies it
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            return CallResult(AnswerClass.RETRY, "not_sent", f"Novu could not be reached: {error_text(error)}")
        except TimeoutError:
            return CallResult(AnswerClass.UNKNOWN, "timeout", f"no answer within {within:.3g} s")
        except AnswerTooLarge as error:
            return CallResult(AnswerClass.UNKNOWN, "answer_too_large", error_text(error))
        except (httpx.HTTPError, NoResponseError) as error:
            return CallResult(AnswerClass.UNKNOWN, "connection_lost", f"the connection broke: {error_text(error)}")
        return None


def body_of(response: httpx.Response) -> bytes:
    """Return the body without our secrets: a proxy that repeats the request's headers must not write them into rows."""
    text = response.content.decode(errors="surrogateescape")  # and back: bytes that are no UTF-8 stay as they are
    return hide_values(text).encode(errors="surrogateescape")


def lowercase_names(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers with lower-case names."""
    return {name.lower(): value for name, value in headers.items()}


def error_text(error: Exception) -> str:
    """Return an error of the HTTP client as one line."""
    return sanitized(hide_values(f"{type(error).__name__} {error}"))
