"""The circuit breaker: an account error trips it, a probe resets it, and both are logged once."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from dispatcher.devstack.fake_novu.process import FakeNovu
from dispatcher.devstack.processes import free_port
from dispatcher.models.call_result import AnswerClass, TriggerEvent
from dispatcher.novu import circuit_breaker as module
from dispatcher.novu.circuit_breaker import CircuitBreaker
from dispatcher.novu.client import NovuClient
from dispatcher.telemetry import health

ANA = TriggerEvent("default-in-app", "ana", "tx-ana", "{}", None)


class FakeProbe:
    """Lets probe number `welcome` and every later one through; counts them."""

    def __init__(self, welcome: int) -> None:
        self.welcome = welcome
        self.asked = 0

    async def __call__(self) -> bool:
        self.asked += 1
        return self.asked >= self.welcome


@asynccontextmanager
async def probing(breaker: CircuitBreaker, wake: asyncio.Event) -> AsyncGenerator[None]:
    """Run the breaker's probes for the block."""
    task = asyncio.create_task(breaker.run(wake))
    yield
    task.cancel()
    await asyncio.wait([task])


async def test_breaker_stays_tripped_until_a_probe_succeeds_and_then_wakes_the_claimer():
    answers, wake = FakeProbe(3), asyncio.Event()
    breaker = CircuitBreaker(answers, first=0, later=0)
    async with probing(breaker, wake):
        breaker.trip("HTTP 401")
        assert not breaker.allows_calls
        await asyncio.wait_for(wake.wait(), 5)
    assert breaker.allows_calls
    assert answers.asked == 3


async def test_breaker_that_is_not_tripped_sends_no_probe():
    answers = FakeProbe(1)
    async with probing(CircuitBreaker(answers, first=0, later=0), asyncio.Event()):
        for _ in range(20):
            await asyncio.sleep(0)
    assert answers.asked == 0


async def test_breaker_logs_a_trip_once_until_novu_accepts_a_trigger():
    wake = asyncio.Event()
    breaker = CircuitBreaker(FakeProbe(1), first=0, later=0)
    with capture_logs() as logs:
        async with probing(breaker, wake):
            for _ in range(3):  # a spent quota welcomes the probe and refuses the next trigger
                breaker.trip("HTTP 402")
                breaker.trip("HTTP 402")
                breaker.record_success()  # the answer of a call that left before
                await asyncio.wait_for(wake.wait(), 5)
                wake.clear()
        breaker.record_success()
        breaker.trip("HTTP 401")
    told = [(line["log_level"], line["event"]) for line in logs if line["event"].startswith("novu")]
    assert told == [("error", "novu_gate_shut"), ("info", "novu_accepts_again"), ("error", "novu_gate_shut")]
    assert not breaker.allows_calls


async def test_only_the_first_probe_comes_after_the_short_wait():
    answers, wake = FakeProbe(1), asyncio.Event()
    breaker = CircuitBreaker(answers, first=0, later=3600)
    async with probing(breaker, wake):
        breaker.trip("HTTP 402")
        await asyncio.wait_for(wake.wait(), 5)
        breaker.trip("HTTP 402")
        for _ in range(20):
            await asyncio.sleep(0)
    assert answers.asked == 1
    assert not breaker.allows_calls


async def test_breaker_tripped_during_a_health_check_is_not_reported_ok(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "HEALTH_CHECK_SECONDS", 0)
    asked, answer = asyncio.Event(), asyncio.Event()

    async def welcomes() -> bool:
        asked.set()
        return await answer.wait()

    breaker = CircuitBreaker(welcomes, first=3600, later=3600)
    async with probing(breaker, asyncio.Event()):
        await asked.wait()
        breaker.trip("HTTP 402")
        answer.set()
        for _ in range(20):
            await asyncio.sleep(0)
        assert health.process_health.state("novu") == "unhealthy"
    health.report_ok("novu")


class TestNovuClient:
    @pytest.mark.parametrize(("key", "path"), [("wrong", ""), (None, "/v2/")])
    async def test_wrong_key_or_address_trips_the_breaker_and_fails_the_probe(
        self, novu: FakeNovu, key: str | None, path: str
    ):
        client = NovuClient(key or novu.api_key, novu.url + path)
        assert client.breaker.allows_calls
        [outcome] = await client.trigger([ANA], "key-1", 5)
        assert outcome.answer_class is AnswerClass.ACCOUNT_ERROR
        assert not client.breaker.allows_calls
        assert not await client.is_available()
        await client.aclose()

    async def test_look_up_with_a_wrong_key_trips_the_breaker(self, novu: FakeNovu):
        client = NovuClient("wrong", novu.url)
        await client.look_up(ANA, 5)
        await client.aclose()
        assert not client.breaker.allows_calls

    async def test_probe_succeeds_with_the_right_key(self, client: NovuClient):
        assert await client.is_available()

    async def test_probe_without_a_server_fails(self):
        client = NovuClient("key", f"http://127.0.0.1:{free_port()}")
        assert not await client.is_available()
        await client.aclose()

    @pytest.mark.parametrize("setting", ["idempotency_store_down", "unknown workflow"])
    async def test_error_of_one_row_or_a_passing_one_does_not_trip_the_breaker(
        self, client: NovuClient, novu: FakeNovu, setting: str
    ):
        await novu.configure(idempotency_store_down=setting == "idempotency_store_down")
        await client.trigger([TriggerEvent("no-such", "ana", "tx-ana", "{}", None)], "key-1", 5)
        assert client.breaker.allows_calls
