"""A process notices that the database has lost commits: by its timeline, and by the fence of its last call."""

import contextlib

import psycopg
import pytest

from dispatcher.config.conninfo import conninfo
from dispatcher.postgres.pool import borrow_connection, open_pool
from dispatcher.postgres.restore_guard import RestoreGuard
from tests.support.outbox_fixture import OutboxFixture, calls_of


@pytest.fixture
def guard(outbox_fixture: OutboxFixture) -> RestoreGuard:
    """The guard that the fixture's outbox tells of its calls."""
    return outbox_fixture.outbox.guard


@pytest.fixture
async def enabled(outbox_fixture: OutboxFixture, guard: RestoreGuard) -> None:
    """The guard compares from now on."""
    async with borrow_connection(outbox_fixture.pool) as connection:
        await guard.enable(connection)


async def connect_again(fixture: OutboxFixture) -> None:
    """Open a pool, as after a failover, and use it."""
    pool = await open_pool(conninfo(fixture.url), check=fixture.outbox.guard.check)
    async with borrow_connection(pool) as connection:
        await connection.execute("select")
    await pool.close(timeout=2)


async def noticed(fixture: OutboxFixture) -> bool:
    return await fixture.value("select restored_at is not null from dispatcher.installation")


async def timeline(fixture: OutboxFixture) -> str:
    return await fixture.value("select timeline from dispatcher.installation")


@pytest.mark.usefixtures("enabled")
async def test_f184_first_start_stores_the_timeline_and_notices_nothing(outbox_fixture: OutboxFixture):
    assert await timeline(outbox_fixture) == "00000001"
    await connect_again(outbox_fixture)
    assert not await noticed(outbox_fixture)


@pytest.mark.usefixtures("enabled")
async def test_f184_other_timeline_is_noticed_at_the_next_connection(outbox_fixture: OutboxFixture):
    await outbox_fixture.rows("update dispatcher.installation set timeline = '00000007'")
    await connect_again(outbox_fixture)
    assert await noticed(outbox_fixture)
    assert await timeline(outbox_fixture) == "00000001"
    await outbox_fixture.rows("update dispatcher.installation set restored_at = null")
    await connect_again(outbox_fixture)
    assert not await noticed(outbox_fixture), "each loss is noticed once"


@pytest.mark.usefixtures("enabled")
@pytest.mark.parametrize(
    "lost", ["delete from dispatcher.delivery", "update dispatcher.delivery set fence = fence - 1"]
)
async def test_f184_lost_fence_of_the_last_call_is_noticed(outbox_fixture: OutboxFixture, lost: str):
    row = await outbox_fixture.acquired()
    await outbox_fixture.outbox.record_calls(calls_of(row))
    await connect_again(outbox_fixture)
    assert not await noticed(outbox_fixture)
    await outbox_fixture.rows(lost)
    await connect_again(outbox_fixture)
    assert await noticed(outbox_fixture)
    await outbox_fixture.rows("update dispatcher.installation set restored_at = null")
    await connect_again(outbox_fixture)
    assert not await noticed(outbox_fixture), "each loss is noticed once"


@pytest.mark.usefixtures("enabled")
async def test_f184_missing_object_is_left_to_the_next_statement(outbox_fixture: OutboxFixture):
    await outbox_fixture.rows("alter table dispatcher.installation rename column timeline to other")
    await connect_again(outbox_fixture)
    await outbox_fixture.rows("alter table dispatcher.installation rename column other to timeline")
    await outbox_fixture.rows("update dispatcher.installation set timeline = '00000007'")
    await connect_again(outbox_fixture)
    assert await noticed(outbox_fixture), "and compared again when it is back"


@pytest.mark.parametrize("in_transaction", [False, True])  # as behind a pooler
async def test_f184_without_the_right_to_read_the_timeline_the_fence_is_compared(
    outbox_fixture: OutboxFixture,
    guard: RestoreGuard,
    in_transaction: bool,  # noqa: FBT001
):
    await outbox_fixture.rows("create role f184_guard login")
    await outbox_fixture.rows("grant usage on schema dispatcher to f184_guard")
    await outbox_fixture.rows("grant select, update on dispatcher.installation to f184_guard")
    await outbox_fixture.rows("grant select on dispatcher.delivery to f184_guard")
    await outbox_fixture.rows("revoke execute on function pg_catalog.pg_walfile_name(pg_lsn) from public")
    try:
        url = outbox_fixture.url.replace("//postgres@", "//f184_guard@")
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            async with connection.transaction() if in_transaction else contextlib.nullcontext():
                await guard.enable(connection)
            row = await outbox_fixture.acquired()
            await outbox_fixture.outbox.record_calls(calls_of(row))
            await guard.check(connection)
            assert not await noticed(outbox_fixture)
            await outbox_fixture.rows("delete from dispatcher.delivery")
            await guard.check(connection)
        assert await noticed(outbox_fixture)
        assert await timeline(outbox_fixture) is None
    finally:
        await outbox_fixture.rows("drop owned by f184_guard")
        await outbox_fixture.rows("drop role f184_guard")
