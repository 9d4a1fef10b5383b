"""Calls with an unknown outcome that cannot be repeated unchanged: they are looked up, then sent again or not."""

import pytest

from dispatcher.devstack.fake_novu.ledger import LoggedRequest
from tests.support.stack import Stack
from tests.support.waits import eventually

pytestmark = pytest.mark.slow


async def unknown(stack: Stack, outcome: str) -> None:
    """Wait until a call ended without an outcome."""

    async def ended() -> bool:
        return await stack.value("select count(*) from dispatcher.recipient where outcome = %s", outcome) > 0

    await eventually(ended, f"a call that ended as {outcome}; {stack.log_tails()}")


async def requests_to_novu(stack: Stack) -> list[LoggedRequest]:
    """Return what was asked of Novu about notifications, in order."""
    return [request for request in await stack.novu.requests() if not request.path.endswith("/environments/me")]


async def looks(stack: Stack) -> list[str]:
    """Return the paths of that."""
    return [request.path.rsplit("/", 1)[-1] for request in await requests_to_novu(stack)]


async def test_stored_500_is_looked_up_and_sent_again_under_a_new_key(stack: Stack):
    await stack.novu.configure(object_storage=False)
    await stack.running()
    row = await stack.notify(payload='{"attachments": [{"file": "x"}]}')
    await unknown(stack, "http_500")
    await stack.novu.configure(object_storage=True)
    assert await stack.final(row, within=60) == ["SENT"]
    assert await looks(stack) == ["trigger", "notifications", "trigger"]
    first, _, second = await requests_to_novu(stack)
    assert first.idempotency_key != second.idempotency_key
    assert second.started_at - first.started_at >= 15


async def test_lost_answer_without_idempotency_is_looked_up_and_not_repeated(stack: Stack):
    await stack.novu.configure(idempotency=False)
    process = await stack.running()
    assert await stack.final(await stack.notify()) == ["SENT"]
    assert "novu_idempotency_off" in process.read_log()
    await stack.novu.add_fault("reset_after", times=1)
    row = await stack.notify()
    await unknown(stack, "connection_lost")
    assert await stack.final(row, within=60) == ["SENT"]
    assert await looks(stack) == ["trigger", "trigger", "notifications"]
    summary = await stack.novu.summary()
    assert (summary.effects, summary.duplicate_pairs) == (2, 0)
    assert process.read_log().count("novu_idempotency_off") == 1
