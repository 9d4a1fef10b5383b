"""PostgreSQL writes the outcome of a call, and the connection breaks before it says so."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from psycopg import OperationalError
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from dispatcher.delivery.activities import DeliveryActivities
from dispatcher.devstack.fake_novu.process import FakeNovu
from dispatcher.devstack.postgres import PostgresServer
from dispatcher.novu.client import NovuClient
from dispatcher.postgres.outbox import OutboxStore
from dispatcher.postgres.pool import check_installed, open_pool
from tests.support.activity_runs import LIMITS, run_activity
from tests.support.outbox_fixture import RELATIONS, OutboxFixture
from tests.support.proxy import FaultProxy, proxied
from tests.support.waits import eventually

SETTLE = b"Writes the outcomes of calls"
"""The beginning of settle.sql, as the server gets it."""


@pytest.fixture
async def proxy(postgres_server: PostgresServer) -> AsyncIterator[FaultProxy]:
    async with proxied("127.0.0.1", postgres_server.port) as proxy:
        yield proxy


@pytest.mark.parametrize("status", [400, 500])
async def test_f188_outcome_is_written_again_as_it_was(
    outbox_fixture: OutboxFixture, novu: FakeNovu, proxy: FaultProxy, status: int
):
    await novu.add_fault("cached_status", status=status)
    row = await outbox_fixture.notify()
    await outbox_fixture.claim()
    target = conninfo_to_dict(outbox_fixture.url) | {"host": "127.0.0.1", "port": proxy.port}
    pool, client = await open_pool(make_conninfo("", **target)), NovuClient(novu.api_key, novu.url)
    labels = await check_installed(pool, "notify.ent_notification")
    outbox = OutboxStore(pool, relations=RELATIONS, status=labels, node="test")
    proxy.trap(SETTLE)
    run = asyncio.create_task(run_activity(outbox_fixture, DeliveryActivities(outbox, client, LIMITS), [row]))
    await proxy.caught.wait()
    await eventually(lambda: is_written(outbox_fixture, row), "the outcome is written")
    [first] = await outbox_fixture.entries(row)
    version = await version_of(outbox_fixture, row)
    await break_settling_connection(outbox_fixture, proxy)
    await proxy.heal()
    with pytest.raises(OperationalError):
        await run

    async def written_again() -> bool:
        return await version_of(outbox_fixture, row) != version

    await eventually(written_again, "the outcome is written again", within=5)
    await client.aclose()
    await pool.close()
    assert await outbox_fixture.entries(row) == [first]
    assert first["epoch"] == 1
    assert await novu.fault_counts() == [1]


async def is_written(fixture: OutboxFixture, row: int) -> bool:
    return (await fixture.entries(row))[0]["state"] != "sending"


async def break_settling_connection(fixture: OutboxFixture, proxy: FaultProxy) -> None:
    port = await fixture.value(
        "select client_port from pg_stat_activity where datname = current_database() and query like %s",
        f"-- {SETTLE.decode()}%",
    )
    [link] = [link for link in proxy.links if link.writers["up"].get_extra_info("sockname")[1] == port]
    link.abort(hard=True)


async def version_of(fixture: OutboxFixture, row: int) -> str:
    return await fixture.value("select xmin::text from dispatcher.recipient where notification_id = %s", row)
