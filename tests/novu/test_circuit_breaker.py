"""The gate before Novu: shut by what is nobody's fault, opened by a probe, told once."""

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


class Answers:
    """Lets probe number `welcome` and every later one through; counts them."""

    def __init__(self, welcome: int) -> None:
        self.welcome = welcome
        self.asked = 0

    async def __call__(self) -> bool:
        self.asked += 1
        return self.asked >= self.welcome


@asynccontextmanager
async def probing(gate: CircuitBreaker, wake: asyncio.Event) -> AsyncGenerator[None]:
    """Run the gate's probes for the block."""
    task = asyncio.create_task(gate.run(wake))
    yield
    task.cancel()
    await asyncio.wait([task])


async def test_it_stays_shut_until_a_probe_is_welcome_and_then_wakes_the_door():
    answers, wake = Answers(3), asyncio.Event()
    gate = CircuitBreaker(answers, first=0, later=0)
    async with probing(gate, wake):
        gate.trip("HTTP 401")
        assert not gate.allows_calls
        await asyncio.wait_for(wake.wait(), 5)
    assert gate.allows_calls
    assert answers.asked == 3


async def test_an_open_gate_asks_nobody():
    answers = Answers(1)
    async with probing(CircuitBreaker(answers, first=0, later=0), asyncio.Event()):
        for _ in range(20):
            await asyncio.sleep(0)
    assert answers.asked == 0


async def test_it_is_told_once_until_something_is_accepted():
    wake = asyncio.Event()
    gate = CircuitBreaker(Answers(1), first=0, later=0)
    with capture_logs() as logs:
        async with probing(gate, wake):
            for _ in range(3):  # a spent quota welcomes the probe and refuses the next trigger
                gate.trip("HTTP 402")
                gate.trip("HTTP 402")
                gate.record_success()  # the answer of a call that left before
                await asyncio.wait_for(wake.wait(), 5)
                wake.clear()
        gate.record_success()
        gate.trip("HTTP 401")
    told = [(line["log_level"], line["event"]) for line in logs if line["event"].startswith("novu")]
    assert told == [("error", "novu_gate_shut"), ("info", "novu_accepts_again"), ("error", "novu_gate_shut")]
    assert not gate.allows_calls


async def test_only_the_first_probe_comes_soon():
    answers, wake = Answers(1), asyncio.Event()
    gate = CircuitBreaker(answers, first=0, later=3600)
    async with probing(gate, wake):
        gate.trip("HTTP 402")
        await asyncio.wait_for(wake.wait(), 5)
        gate.trip("HTTP 402")
        for _ in range(20):
            await asyncio.sleep(0)
    assert answers.asked == 1
    assert not gate.allows_calls


async def test_a_gate_that_shut_while_it_was_probed_is_not_told_as_whole(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "HEALTH_CHECK_SECONDS", 0)
    asked, answer = asyncio.Event(), asyncio.Event()

    async def welcomes() -> bool:
        asked.set()
        return await answer.wait()

    gate = CircuitBreaker(welcomes, first=3600, later=3600)
    async with probing(gate, asyncio.Event()):
        await asked.wait()
        gate.trip("HTTP 402")
        answer.set()
        for _ in range(20):
            await asyncio.sleep(0)
        assert health.process_health.state("novu") == "unhealthy"
    health.report_ok("novu")


class TestGateway:
    @pytest.mark.parametrize(("key", "path"), [("wrong", ""), (None, "/v2/")])
    async def test_a_wrong_key_or_address_shuts_it_and_is_not_welcome(self, novu: FakeNovu, key: str | None, path: str):
        gateway = NovuClient(key or novu.api_key, novu.url + path)
        assert gateway.breaker.allows_calls
        [outcome] = await gateway.trigger([ANA], "key-1", 5)
        assert outcome.answer_class is AnswerClass.ACCOUNT_ERROR
        assert not gateway.breaker.allows_calls
        assert not await gateway.is_available()
        await gateway.aclose()

    async def test_a_look_up_shuts_it_too(self, novu: FakeNovu):
        gateway = NovuClient("wrong", novu.url)
        await gateway.look_up(ANA, 5)
        await gateway.aclose()
        assert not gateway.breaker.allows_calls

    async def test_the_right_key_is_welcome(self, gateway: NovuClient):
        assert await gateway.is_available()

    async def test_nobody_there_is_no_welcome(self):
        gateway = NovuClient("key", f"http://127.0.0.1:{free_port()}")
        assert not await gateway.is_available()
        await gateway.aclose()

    @pytest.mark.parametrize("setting", ["idempotency_store_down", "unknown workflow"])
    async def test_what_concerns_one_row_or_passes_leaves_it_open(
        self, gateway: NovuClient, novu: FakeNovu, setting: str
    ):
        await novu.configure(idempotency_store_down=setting == "idempotency_store_down")
        await gateway.trigger([TriggerEvent("no-such", "ana", "tx-ana", "{}", None)], "key-1", 5)
        assert gateway.breaker.allows_calls
