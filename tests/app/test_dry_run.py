"""`run --dry-run` reads by the claim's indexes, and limits its share of the database's time."""

import asyncio
import time
from typing import Any

import pytest
from psycopg.errors import OperationalError, QueryCanceled, ReadOnlySqlTransaction
from pydantic import SecretStr

from dispatcher.app.dry_run import DryRun
from dispatcher.config.settings import Settings
from dispatcher.telemetry import health
from dispatcher.wakeup.signal import WakeUp
from dispatcher.web.backlog_metrics import SHARE
from tests.support.outbox_fixture import OutboxFixture

TOOK = 0.05


def dry_run_of(outbox_fixture: OutboxFixture, kind: type[DryRun] = DryRun) -> Any:
    return kind(outbox_fixture.pool, Settings(database_url=SecretStr(outbox_fixture.url)))


async def plan_of(outbox_fixture: OutboxFixture) -> str:
    """Return PostgreSQL's plan of the search for due rows."""
    dry_run = dry_run_of(outbox_fixture)
    lines = await dry_run._read(b"explain " + dry_run._due, **dry_run._limits)
    return "\n".join(line["QUERY PLAN"] for line in lines)


async def ended_rows(outbox_fixture: OutboxFixture) -> None:
    await outbox_fixture.rows(
        "insert into notify.ent_notification (name, publish_status, notification_status, payload, recipients)"
        " select 'n ' || i, 'PUBLISH', 'SENT', '{}', '{}' from generate_series(1, 5000) i"
    )
    await outbox_fixture.rows("analyze notify.ent_notification")


async def test_dry_run_uses_only_the_indexes_of_a_claim(outbox_fixture: OutboxFixture):
    await ended_rows(outbox_fixture)
    plan = await plan_of(outbox_fixture)
    assert "Seq Scan" not in plan
    assert plan.count("Index Scan on") == 2, plan
    assert all(f"dispatcher_{index}" in plan for index in ("new_rows", "scheduled")), plan


async def test_dry_run_without_indexes_scans_the_table_once(outbox_fixture: OutboxFixture):
    await ended_rows(outbox_fixture)
    for index in ("new_rows", "scheduled", "processing", "retracted"):
        await outbox_fixture.rows(f"drop index notify.ent_notification_dispatcher_{index}")
    plan = await plan_of(outbox_fixture)
    assert plan.count("Seq Scan") == 1, plan
    assert "Index" not in plan, plan


async def test_dry_run_cannot_write(outbox_fixture: OutboxFixture):
    with pytest.raises(ReadOnlySqlTransaction):
        await dry_run_of(outbox_fixture)._read(b"delete from notify.ent_notification returning id")


async def test_dry_run_returns_the_servers_time(outbox_fixture: OutboxFixture):
    async with outbox_fixture.owner.transaction():
        await outbox_fixture.rows("lock table notify.ent_notification")
        looking = asyncio.create_task(dry_run_of(outbox_fixture).run_once())
        await asyncio.sleep(TOOK)
        assert not looking.done()
    assert await looking > TOOK / 2


class SlowDryRun(DryRun):
    """A dry run that is slow or raises, and records the times of its reads."""

    error: Exception | None = None

    async def run_once(self) -> float:
        self.looks.append(time.monotonic())
        await asyncio.sleep(TOOK)
        if self.error is not None:
            raise self.error
        return TOOK

    @property
    def looks(self) -> list[float]:
        return vars(self).setdefault("noted", [])


@pytest.mark.parametrize("error", [None, QueryCanceled("it took too long"), OperationalError("nobody there")])
async def test_dry_run_takes_a_twentieth_of_the_time_and_retries_a_lost_database(
    outbox_fixture: OutboxFixture, error: Exception | None
):
    dry_run, wake = dry_run_of(outbox_fixture, SlowDryRun), WakeUp()
    dry_run.error = error
    task = asyncio.create_task(dry_run.run(wake))
    async with asyncio.timeout(20):
        while len(dry_run.looks) < 2:
            wake.notify("notify")
            await asyncio.sleep(0.01)
    task.cancel()
    health.report_ok("postgres")
    between = dry_run.looks[1] - dry_run.looks[0]
    if type(error) is OperationalError:
        assert between < SHARE * TOOK
    else:
        assert between > SHARE * TOOK
