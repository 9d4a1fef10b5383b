"""The effect log also has cancels: a delayed run stopped, messages removed."""

import httpx
from novu_py import Novu

from dispatcher.devstack.fake_novu.process import FakeNovu

NEVER = 3600


async def cancels(fake_novu: FakeNovu) -> list[tuple[int, int]]:
    """Return how often each pair was accepted and cancelled."""
    return [(effect.accepted, effect.taken_back) for effect in await fake_novu.effects()]


async def trigger(api: httpx.AsyncClient, workflow: str) -> None:
    event = {"name": workflow, "to": "ana", "transactionId": "t-1", "payload": {}}
    assert (await api.post("/v1/events/trigger", json=event)).status_code == 201


async def test_cancelled_delays_and_removed_messages_are_listed(
    api: httpx.AsyncClient, novu: Novu, fake_novu: FakeNovu
):
    await fake_novu.add_workflow("delayed", steps=["in_app", {"type": "delay", "seconds": NEVER}, "email"])
    await trigger(api, "delayed")
    await fake_novu.wait_idle()
    assert await cancels(fake_novu) == [(1, 0)]
    assert (await novu.cancel_async(transaction_id="t-1")).result is True
    assert await cancels(fake_novu) == [(1, 1)]
    await novu.messages.delete_by_transaction_id_async(transaction_id="t-1")
    assert await cancels(fake_novu) == [(1, 2)]


async def test_cancel_too_early_or_twice_cancels_nothing(api: httpx.AsyncClient, fake_novu: FakeNovu):
    await fake_novu.configure(worker_paused=True)
    await trigger(api, "default-in-app")
    assert (await api.delete("/v1/events/trigger/t-1")).json() == {"data": False}
    assert (await api.delete("/v1/messages/transaction/t-1")).status_code == 404
    await fake_novu.configure(worker_paused=False)
    await fake_novu.wait_idle()
    assert await cancels(fake_novu) == [(1, 0)]
    for _ in range(2):
        await api.delete("/v1/messages/transaction/t-1")
    assert await cancels(fake_novu) == [(1, 1)]


async def test_rule_can_match_one_method(api: httpx.AsyncClient, fake_novu: FakeNovu):
    await fake_novu.add_fault("status", method="DELETE", status=503)
    await trigger(api, "default-in-app")
    await fake_novu.wait_idle()
    assert (await api.delete("/v1/messages/transaction/t-1")).status_code == 503
    assert (await fake_novu.fault_counts(), await cancels(fake_novu)) == ([1], [(1, 0)])
