"""The effect log also tells what was taken back: a waiting run cancelled, messages removed."""

import httpx
from novu_py import Novu

from dispatcher.devstack.fake_novu.process import FakeNovu

NEVER = 3600


async def taken_back(standin: FakeNovu) -> list[tuple[int, int]]:
    """Return how often each pair was accepted and taken back."""
    return [(effect.accepted, effect.taken_back) for effect in await standin.effects()]


async def trigger(api: httpx.AsyncClient, workflow: str) -> None:
    event = {"name": workflow, "to": "ana", "transactionId": "t-1", "payload": {}}
    assert (await api.post("/v1/events/trigger", json=event)).status_code == 201


async def test_a_cancelled_delay_and_removed_messages_are_told(api: httpx.AsyncClient, novu: Novu, standin: FakeNovu):
    await standin.add_workflow("delayed", steps=["in_app", {"type": "delay", "seconds": NEVER}, "email"])
    await trigger(api, "delayed")
    await standin.wait_idle()
    assert await taken_back(standin) == [(1, 0)]
    assert (await novu.cancel_async(transaction_id="t-1")).result is True
    assert await taken_back(standin) == [(1, 1)]
    await novu.messages.delete_by_transaction_id_async(transaction_id="t-1")
    assert await taken_back(standin) == [(1, 2)]


async def test_what_comes_too_early_or_twice_takes_nothing_back(api: httpx.AsyncClient, standin: FakeNovu):
    await standin.configure(worker_paused=True)
    await trigger(api, "default-in-app")
    assert (await api.delete("/v1/events/trigger/t-1")).json() == {"data": False}
    assert (await api.delete("/v1/messages/transaction/t-1")).status_code == 404
    await standin.configure(worker_paused=False)
    await standin.wait_idle()
    assert await taken_back(standin) == [(1, 0)]
    for _ in range(2):
        await api.delete("/v1/messages/transaction/t-1")
    assert await taken_back(standin) == [(1, 1)]


async def test_a_rule_may_mean_one_method_alone(api: httpx.AsyncClient, standin: FakeNovu):
    await standin.add_fault("status", method="DELETE", status=503)
    await trigger(api, "default-in-app")
    await standin.wait_idle()
    assert (await api.delete("/v1/messages/transaction/t-1")).status_code == 503
    assert (await standin.fault_counts(), await taken_back(standin)) == ([1], [(1, 0)])
