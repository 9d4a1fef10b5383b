"""A 401, 402, 403 or 404 opens the circuit breaker only if a probe confirms that it concerns every row."""

import asyncio

import pytest
from structlog.testing import capture_logs

from dispatcher.decisions.classification import classify
from dispatcher.devstack.fake_novu.process import FakeNovu
from dispatcher.models.call_result import AnswerClass, CallResult, TriggerEvent
from dispatcher.novu import circuit_breaker as module
from dispatcher.novu.circuit_breaker import CircuitBreaker
from dispatcher.novu.client import NovuClient
from tests.decisions.answers_of_novu import error

ANA = TriggerEvent("default-in-app", "ana", "tx-ana", "{}", None)
BO = TriggerEvent("default-in-app", "bo", "tx-bo", "{}", None)
STATUSES = [401, 402, 403, 404]
PROXY = "a proxy or firewall before Novu"


def refusal(status: int, body: bytes = b"<html>blocked</html>") -> CallResult:
    [result] = classify(status, {}, body, 1, bulk=False)
    return result


class FixedProbe:
    """Gives the same answer to each probe, and counts them."""

    def __init__(self, *, succeeds: bool) -> None:
        self.succeeds = succeeds
        self.asked = 0

    async def __call__(self) -> bool:
        self.asked += 1
        await asyncio.sleep(0)
        return self.succeeds


class TestConfirm:
    @pytest.mark.parametrize("succeeds", [True, False])
    @pytest.mark.parametrize("status", STATUSES)
    async def test_breaker_opens_only_if_the_probe_fails(self, status: int, *, succeeds: bool):
        breaker = CircuitBreaker(FixedProbe(succeeds=succeeds))
        assert await breaker.confirm(refusal(status)) is not succeeds
        assert breaker.allows_calls is succeeds

    @pytest.mark.parametrize("succeeds", [True, False])
    async def test_refusals_that_came_together_share_a_probe(self, *, succeeds: bool):
        probe = FixedProbe(succeeds=succeeds)
        breaker = CircuitBreaker(probe)
        assert await asyncio.gather(*(breaker.confirm(refusal(403)) for _ in range(10))) == [not succeeds] * 10
        assert probe.asked == 1 + succeeds, "the second began after the other nine refusals"

    async def test_later_refusal_needs_another_probe(self):
        probe = FixedProbe(succeeds=True)
        breaker = CircuitBreaker(probe)
        for _ in range(3):
            assert not await breaker.confirm(refusal(403))
        assert probe.asked == 3
        probe.succeeds = False
        assert await breaker.confirm(refusal(403))

    async def test_quota_that_novu_itself_names_needs_no_probe(self):
        breaker = CircuitBreaker(FixedProbe(succeeds=True))
        breaker.record_success()
        assert await breaker.confirm(refusal(402, error(402, "Quota exceeded")))
        assert not breaker.allows_calls

    async def test_quota_is_not_spent_if_novu_accepted_a_trigger_since(self, monkeypatch: pytest.MonkeyPatch):
        breaker = CircuitBreaker(FixedProbe(succeeds=True))
        assert await breaker.confirm(refusal(402, error(402, "Quota exceeded")))
        breaker.allows_calls = True
        assert await breaker.confirm(refusal(402, error(402, "Quota exceeded"))), "still nothing was accepted"
        breaker.allows_calls = True
        breaker.record_success()
        assert not await breaker.confirm(refusal(402, error(402, "Quota exceeded")))
        monkeypatch.setattr(module, "QUOTA_PROOF_SECONDS", 0)
        assert await breaker.confirm(refusal(402, error(402, "Quota exceeded"))), "it may be spent since"

    async def test_log_names_the_suspects_in_the_order_of_their_likelihood(self):
        with capture_logs() as logs:
            await CircuitBreaker(FixedProbe(succeeds=False)).confirm(refusal(403, error(403, "Forbidden")))
            await CircuitBreaker(FixedProbe(succeeds=False)).confirm(refusal(403))
            await CircuitBreaker(FixedProbe(succeeds=True)).confirm(refusal(403))
        account, page, one_call = (line for line in logs if line["event"].startswith("novu_"))
        assert account["suspected"] == ("NOVU_SECRET_KEY", PROXY, "the content of this call")
        assert page["suspected"] == (PROXY, "NOVU_SECRET_KEY", "the content of this call")
        assert (one_call["event"], one_call["suspected"][0]) == ("novu_refused_one_call", "the content of this call")


class TestNovuClient:
    @pytest.mark.parametrize("status", [401, 403, 404])
    async def test_call_that_novu_refuses_alone_is_retried_and_the_breaker_stays_closed(
        self, client: NovuClient, novu: FakeNovu, status: int
    ):
        await novu.add_fault("status", status=status, message="blocked", recipient="ana")
        [result] = await client.trigger([ANA], "key-1", 5)
        assert (result.answer_class, result.detail) == (AnswerClass.RETRY, f"HTTP {status}: blocked")
        assert client.breaker.allows_calls
        together = await client.trigger([ANA, BO], "key-2", 5)
        assert [each.answer_class for each in together] == [AnswerClass.REFUSED_TOGETHER] * 2

    @pytest.mark.parametrize("status", STATUSES)
    async def test_refusal_of_every_trigger_opens_the_breaker_though_reading_works(
        self, client: NovuClient, novu: FakeNovu, status: int
    ):
        await novu.add_fault("status", status=status, method="POST")
        [result] = await client.trigger([ANA], "key-1", 5)
        assert result.answer_class is AnswerClass.ACCOUNT_ERROR
        assert await client.is_available()
        assert not await client.accepts_triggers()
        assert not client.breaker.allows_calls

    async def test_probe_has_no_effect_at_novu(self, client: NovuClient, novu: FakeNovu):
        assert await client.accepts_triggers()
        assert (await novu.summary()).effects == 0

    @pytest.mark.parametrize("status", [401, 403, 404])
    async def test_refused_look_up_tells_nothing_about_the_run(self, client: NovuClient, novu: FakeNovu, status: int):
        await client.trigger([ANA], "key-1", 5)
        await novu.add_fault("status", status=status, path="/v1/notifications")
        assert (await client.look_up(ANA, 5)).answer_class is AnswerClass.UNKNOWN, "not: there is no run"
        assert client.breaker.allows_calls

    @pytest.mark.parametrize("status", [401, 403])
    async def test_refused_cancel_is_tried_again(self, client: NovuClient, novu: FakeNovu, status: int):
        await novu.add_fault("status", status=status, method="DELETE")
        assert (await client.cancel("tx-ana", 5)).answer_class is AnswerClass.RETRY
        assert client.breaker.allows_calls
