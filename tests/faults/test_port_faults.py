"""The health port as a target, and as a witness: nothing done to it slows delivery, and it names what is broken."""

import asyncio
import socket
from contextlib import ExitStack
from uuid import uuid4

import httpx

from dispatcher.web.server import MAX_CONNECTIONS
from tests.support.proxy import FaultProxy
from tests.support.stack import Process, Stack
from tests.support.waits import eventually

SOON = {"DISPATCHER_SWEEP_INTERVAL": "1s"}


async def names(http: httpx.AsyncClient, *broken: str, within: float = 30) -> None:
    """Wait until readiness names these parts and no other."""

    async def so() -> bool:
        answer = await http.get("/readyz")
        return answer.json().get("broken", []) == [*broken] and (answer.status_code == 503) is bool(broken)

    await eventually(so, f"/readyz naming {broken}", within)


async def slow_client(port: int, sent_away: list[int]) -> None:
    """Begin a request and never end it; note when the port has had enough of it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    end = asyncio.create_task(reader.read())
    try:
        writer.write(b"GET /livez HTTP/1.1\r\nx: ")
        while not (await asyncio.wait([end], timeout=1))[0]:
            writer.write(b"a")
        sent_away.append(port)
    finally:
        writer.transport.abort()
        await asyncio.gather(end, return_exceptions=True)


async def flood(http: httpx.AsyncClient, answers: list[int]) -> None:
    """Ask as fast as answers come."""
    while True:
        try:
            answers.append((await http.get("/livez")).status_code)
        except httpx.TransportError:
            answers.append(0)  # sent away, or no place


async def test_f162_rows_are_sent_beside_500_slow_clients_a_flood_and_noise(stack: Stack):
    process = await stack.running(**SOON)
    sent_away: list[int] = []
    answers: list[int] = []
    async with await process.http() as http:
        port = http.base_url.port
        assert port
        await names(http)
        with ExitStack() as held:
            for _ in range(100):  # connect, and say nothing or nonsense
                noise = held.enter_context(socket.create_connection(("127.0.0.1", port)))
                noise.send(uuid4().bytes * 50)
            crowd = [asyncio.create_task(slow_client(port, sent_away)) for _ in range(500)]
            crowd += [asyncio.create_task(flood(http, answers)) for _ in range(20)]
            for _ in range(20):
                assert await stack.final(await stack.notify(), within=10) == ["SENT"]

            async def no_place_kept() -> bool:
                return len(sent_away) > MAX_CONNECTIONS

            await eventually(no_place_kept, "more slow clients to have been sent away than there are places")
            for task in crowd:
                task.cancel()
            await asyncio.gather(*crowd, return_exceptions=True)
        await names(http)
    assert answers.count(200) > 20, "and proper requests were answered meanwhile"


async def series(process: Process) -> list[str]:
    async with await process.http() as http:
        text = (await http.get("/metrics")).text
    return [line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")]


async def test_f164_workflow_keys_and_tenants_make_no_series(stack: Stack):
    process = await stack.running(**SOON)
    keys = [f"key-{number}" for number in range(50)]
    tenants = [uuid4() for _ in range(50)]
    for key in keys[:2]:
        await stack.final(await stack.notify(workflow=await stack.workflow(key)))
    few = await series(process)
    rows = [
        await stack.notify(workflow=await stack.workflow(key), enterprise_id=tenant)
        for key, tenant in zip(keys, tenants, strict=True)
    ]
    await stack.final(*rows, within=60)
    many = await series(process)
    assert not [each for each in many if any(word in each for word in ("key-", *map(str, tenants)))]
    assert len(many) <= len(few) + 60, set(many) - set(few)  # histograms' buckets appear with their first label


async def test_f165_stalled_listener_is_named_alone(stack: Stack, proxied_url: str, to_postgres: FaultProxy):
    process = await stack.running(DISPATCHER_LISTEN_DATABASE_URL=proxied_url, **SOON)
    async with await process.http() as http:
        await names(http)
        to_postgres.stall()
        await names(http, "listener")
        assert (await http.get("/livez")).status_code == 200
        assert await stack.final(await stack.notify(), within=10) == ["SENT"], "polling goes on"
        assert (await http.get("/status")).json()["listener"]["verified"] is False
        await to_postgres.heal()
        await names(http)
