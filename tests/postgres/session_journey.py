"""One journey of a row through everything that connects to PostgreSQL, with the facts to compare between settings."""

from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
from pydantic import SecretStr

from dispatcher.app.dry_run import DryRun
from dispatcher.cli.operator_session import open_operator
from dispatcher.config.settings import Settings
from dispatcher.doctor import POSTGRES
from dispatcher.doctor.runner import Context, Finding, Runner
from dispatcher.install import Options, inspect, install, plan, uninstall, verify_notify
from dispatcher.models.notification import RecipientState
from dispatcher.postgres.lock_retry import change_with_retry
from dispatcher.postgres.outbox import OutboxStore
from dispatcher.postgres.pool import check_installed, open_pool
from dispatcher.postgres.row_filter import RowFilter
from tests.support.outbox_fixture import LEASE, RELATIONS, OutboxFixture

OUTBOX = "notify.ent_notification"
RECIPIENTS = [UUID(int=1), UUID(int=2)]
PAYLOAD = '{"title": "C:\\\\Übermut", "none": null}'
LEDGER = """
select d.generation, d.fence, d.attempts, d.last_error, d.settled_at is null,
  round(extract(epoch from d.next_attempt_at - d.claimed_at)), r.recipient, r.state, r.outcome, r.error,
  r.call_key is null, r.cancel_at is null, n.notification_status, n.retracted_at is null,
  regexp_replace((n.error_details - 'timestamp' #- '{retraction,noticed_at}')::text, 'n1-[0-9a-f]{32}', 'n1-…', 'g')
from dispatcher.delivery as d join dispatcher.recipient as r using (notification_id, generation)
join notify.ent_notification as n on n.id = notification_id order by notification_id, r.recipient
"""


async def installation(url: str) -> list[Any]:
    """Remove everything, install it again, and return what the installer says about it."""
    await uninstall(url, Options(ledger=True))
    report = await install(url)
    differences = [*report.remaining, *await inspect(url)]
    _, text = await plan(url)
    await verify_notify(url)
    return [len(report.changed), [str(each) for each in differences], text]


async def delivery(fixture: OutboxFixture) -> list[Any]:
    """Send rows: one is SENT, one waits for a retry, and one is retracted and cancelled. Return rows and ledger."""
    sent, failed, retracted = [
        await fixture.acquired(recipients=RECIPIENTS, payload=PAYLOAD, overrides=None) for _ in range(3)
    ]
    read = [[row.payload, row.overrides, [each.id for each in row.recipients]] for row in (sent, failed, retracted)]
    await fixture.settle(sent, RecipientState.ACCEPTED)
    await fixture.settle(failed, RecipientState.UNKNOWN, timedelta(minutes=1))
    await fixture.settle(retracted, RecipientState.ACCEPTED)
    await fixture.outbox.heartbeat(role="all", host="here", version="1", mode="EVENT")
    return [read, await fixture.outbox.seconds_until_due() is not None, retracted.id]


async def retraction(fixture: OutboxFixture, url: str, row: int) -> list[Any]:
    """Retract a row as an operator does, and cancel its recipients. Return what was changed."""
    async with open_operator(url, OUTBOX) as operator:
        previewed = await operator.preview(RowFilter(ids=(row,)))
        changed = await change_with_retry(lambda rows: operator.retract(rows, "they said 'stop'"), previewed)
        listed = [(each["id"], each["status"]) for each in await operator.list_rows(RowFilter(), 10)]
        counts = (await operator.count_by_status())["counts"]
    await fixture.outbox.detect_retracted(10)
    cancels = await fixture.outbox.acquire_cancels(10, LEASE)
    for cancel in cancels:
        cancel.state, cancel.outcome, cancel.error = RecipientState.CANCELLED, "cancelled", None
    await fixture.outbox.record_cancels(cancels)
    return [changed, listed, counts, len(cancels)]


async def doctor(settings: Settings) -> list[Any]:
    """Return the verdict of every check of PostgreSQL."""
    found: list[Any] = []

    def add(name: str, finding: Finding) -> None:
        found.append((name, finding.status.value, finding.value if finding.status.value != "pass" else ""))

    async with AsyncExitStack() as exits:
        context = Context(settings, exits)  # kept, so that `exits` closes its connections before they are collected
        await Runner(context, (POSTGRES,)).run(add)
    return found


async def journey(url: str, owner_url: str) -> list[Any]:
    """Return all facts of a journey whose statements of ours run at `url`; the test's own run at `owner_url`."""
    facts: list[Any] = [await installation(url)]
    settings = Settings(database_url=SecretStr(url))
    pool = await open_pool(url)
    try:
        async with await psycopg.AsyncConnection.connect(owner_url, autocommit=True) as owner:
            status = await check_installed(pool, OUTBOX)
            outbox = OutboxStore(pool, relations=RELATIONS, status=status, node="here")
            fixture = OutboxFixture(owner_url, owner, pool, outbox)
            sent = await delivery(fixture)
            facts += [sent, await retraction(fixture, url, sent[-1])]
            await fixture.notify(recipients=RECIPIENTS, payload=PAYLOAD)
            dry_run = DryRun(pool, settings)
            await dry_run.check()
            await dry_run.run_once()
            facts += [await fixture.rows(LEDGER), dry_run.sent, dry_run.refused, await doctor(settings)]
    finally:
        await pool.close(timeout=2)
    return facts
