"""Calls whose outcome nobody knows and that cannot be repeated as they were: looked up, then sent again or not."""

import pytest
from house import House, eventually

from dispatcher.devstack.fake_novu.process import LoggedRequest

pytestmark = pytest.mark.slow


async def unknown(house: House, outcome: str) -> None:
    """Wait until a call ended without an outcome."""

    async def ended() -> bool:
        return await house.value("select count(*) from dispatcher.recipient where outcome = %s", outcome) > 0

    await eventually(ended, f"a call that ended as {outcome}; {house.last_words()}")


async def asked(house: House) -> list[LoggedRequest]:
    """Return what was asked of Novu about notifications, in order."""
    return [request for request in await house.novu.requests() if not request.path.endswith("/environments/me")]


async def looks(house: House) -> list[str]:
    """Return the paths of that."""
    return [request.path.rsplit("/", 1)[-1] for request in await asked(house)]


async def test_a_500_that_novu_stored_is_looked_up_and_sent_again_under_a_new_key(house: House):
    await house.novu.configure(object_storage=False)
    await house.running()
    row = await house.notify(payload='{"attachments": [{"file": "x"}]}')
    await unknown(house, "http_500")
    await house.novu.configure(object_storage=True)
    assert await house.final(row, within=60) == ["SENT"]
    assert await looks(house) == ["trigger", "notifications", "trigger"]
    first, _, second = await asked(house)
    assert first.idempotency_key != second.idempotency_key
    assert second.started_at - first.started_at >= 15


async def test_without_idempotency_a_lost_answer_is_looked_up_and_not_repeated(house: House):
    await house.novu.configure(idempotency=False)
    process = await house.running()
    assert await house.final(await house.notify()) == ["SENT"]
    assert "novu_idempotency_off" in process.words()
    await house.novu.add_fault("reset_after", times=1)
    row = await house.notify()
    await unknown(house, "connection_lost")
    assert await house.final(row, within=60) == ["SENT"]
    assert await looks(house) == ["trigger", "trigger", "notifications"]
    summary = await house.novu.summary()
    assert (summary.effects, summary.duplicate_pairs) == (2, 0)
    assert process.words().count("novu_idempotency_off") == 1
