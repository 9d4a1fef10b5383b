"""Prunes the ledger once, outside a running dispatcher: what `dispatcher db prune` does."""

from collections.abc import Callable
from datetime import timedelta

from dispatcher.config.conninfo import conninfo
from dispatcher.config.table_names import parse_outbox_name
from dispatcher.install import ledger_version
from dispatcher.install.session import explain_errors
from dispatcher.postgres.installation import require_own_outbox
from dispatcher.postgres.pool import borrow_connection, check_installed, open_pool
from dispatcher.postgres.pruning import BEFORE_ALL_IDS, LedgerPruning, Step


async def prune_once(
    url: str, outbox: str, *, age: timedelta, dry_run: bool, on_step: Callable[[Step], None] = lambda _: None
) -> Step:
    """Walk through the whole ledger, and return the sums; `dry_run` only counts. `on_step` gets the sums so far.

    Raises a `DispatcherError` if the database does not answer, is not prepared, or a right is missing.
    """
    table = parse_outbox_name(outbox)
    pool = await open_pool(conninfo(url, application_name="dispatcher db"), size=2)
    try:
        async with explain_errors(url):
            await check_installed(pool, str(table))
            async with borrow_connection(pool) as connection:
                await require_own_outbox(connection, str(table))
                await ledger_version.require_current(connection)
            pruning = LedgerPruning(pool, table.identifier, age=age)
            work = pruning.count if dry_run else pruning.prune
            done, after = Step(BEFORE_ALL_IDS, 0, 0, 0), BEFORE_ALL_IDS
            while after is not None:
                step = await work(after)
                after = step.walked_to
                done = Step(after, done.recipients + step.recipients, done.heads + step.heads, done.bytes + step.bytes)
                on_step(done)
            return done
    finally:
        await pool.close(timeout=2)
