"""Measures claims alone, without any process: how long a claim takes with few due rows and with very many.

Each backlog has a database of its own. Between two claims the claimed rows get another owner, so that the node has its
whole capacity again, as if its workflows had finished.
"""

import itertools
import statistics
import time
from datetime import timedelta

import psycopg
from psycopg import sql

from bench.contestants import Contestant
from bench.figures import Value, Values
from bench.stack import Stack
from bench.tenants import INSERT
from bench.writer import PAYLOAD
from dispatcher.claim.claimer import MAX_CLAIMED_ROWS, MAX_LEASED_ROWS
from dispatcher.config.settings import Settings
from dispatcher.models.claims import ClaimLimits
from dispatcher.postgres.outbox import OutboxStore
from dispatcher.postgres.pool import check_installed, open_pool
from dispatcher.postgres.statements import TableNames

CLAIMS = 5
LEASE = timedelta(minutes=10)
TABLES = TableNames(sql.Identifier("notify", "ent_notification"), sql.Identifier("notify", "ent_notification_workflow"))
numbers = itertools.count(1)


def figure(enterprises: int, rows: int) -> str:
    """Return the name of the figure of one backlog."""
    return f"claim, {rows:,} due of {enterprises:,}"


async def one_block(
    stack: Stack, contestant: Contestant, sizes: tuple[int, ...], enterprises: tuple[int, ...]
) -> Values:
    """Return the milliseconds of a claim for each size and each number of enterprises."""
    values: Values = {}
    for number, rows in itertools.product(enterprises, sizes):
        name = f"backlog_{next(numbers)}"
        url = await stack.clone(contestant.template, name)
        try:
            values[figure(number, rows)] = Value(await milliseconds(url, number, rows), "ms")
        finally:
            await stack.drop(name)
    return values


async def milliseconds(url: str, enterprises: int, rows: int) -> float:
    """Write a backlog; return the median of a few claims, after one that does not count."""
    async with (
        await psycopg.AsyncConnection.connect(url, autocommit=True) as owner,
        await open_pool(url, size=2) as pool,
    ):
        await owner.execute(INSERT, [PAYLOAD, min(enterprises, rows), rows])
        await owner.execute("vacuum analyze notify.ent_notification")
        status = await check_installed(pool, "notify.ent_notification")
        outbox = OutboxStore(pool, relations=TABLES, status=status, node="bench")
        batch_size = Settings.model_fields["batch_size"].default
        limits = ClaimLimits(MAX_CLAIMED_ROWS, MAX_LEASED_ROWS, batch_size)
        took: list[float] = []
        for number in range(CLAIMS + 1):
            began = time.perf_counter()
            claim = await outbox.claim(f"bench-{number}", LEASE, limits)
            took.append(time.perf_counter() - began)
            if not claim.rows:
                raise RuntimeError(f"claim {number + 1} of {rows} due rows found none")
            await owner.execute("update dispatcher.delivery set lease_owner = 'done' where lease_owner = 'bench'")
    return 1000 * statistics.median(took[1:])
