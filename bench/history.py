"""Measures the rate of a burst with years of settled rows in outbox and ledger, beside the rate before.

The history is copies of a row that this contestant settled itself, made by SQL, so it is whatever its version writes.
"""

import statistics

from psycopg import sql

from bench.block import Block, block
from bench.burst import accepted_burst, warmed_up
from bench.contestants import Contestant
from bench.figures import Better, Value, Values
from bench.stack import Stack

BEFORE, AFTER = "burst without history", "burst after the history"
BURSTS = 3
TABLES = {
    "notify.ent_notification": "id",
    "dispatcher.delivery": "notification_id",
    "dispatcher.recipient": "notification_id",
}
"""By table, the column that holds the notification's id."""
COLUMNS = """
    select array_agg(attname::text order by attnum) from pg_attribute
    where attrelid = %s::regclass and attnum > 0 and not attisdropped and attgenerated = ''
"""
COPY = """
    insert into {table} ({columns}) overriding system value
    select {values} from {table} cross join generate_series(1, %(rows)s) n where {key} = %(copied)s
"""
NEW_VALUES = {
    "id": sql.SQL("%(copied)s + n"),
    "notification_id": sql.SQL("%(copied)s + n"),
    "name": sql.SQL("'history ' || n"),
}
"""Columns that a copy does not keep: names are unique within an enterprise."""


async def one_block(stack: Stack, contestant: Contestant, history: int, rows: int) -> Values:
    """Return the rates of bursts before and after `history` settled rows were added."""
    async with block(stack, contestant) as running:
        await warmed_up(running)
        await accepted_burst(running, rows)
        rates = {BEFORE: await bursts(running, rows)}
        await add_history(running, history)
        rates[AFTER] = await bursts(running, rows)
    return {name: Value(rate, "rows/s", Better.HIGHER) for name, rate in rates.items()}


async def bursts(running: Block, rows: int) -> float:
    """Return the median rate of a few bursts."""
    seconds = [
        accepted - committed for committed, accepted in [await accepted_burst(running, rows) for _ in range(BURSTS)]
    ]
    return rows / statistics.median(seconds)


async def add_history(running: Block, history: int) -> None:
    """Copy the newest settled row `history` times, in outbox and ledger."""
    connection = running.connection
    newest = "select max(id) from notify.ent_notification where notification_status = 'SENT'"
    [copied] = await (await connection.execute(newest)).fetchone() or [0]
    async with connection.transaction():
        await connection.execute("set local dispatcher.quiet = on")
        for table, key in TABLES.items():
            [columns] = await (await connection.execute(COLUMNS, [table])).fetchone() or [[]]
            parts = {
                "table": sql.Identifier(*table.split(".")),
                "key": sql.Identifier(key),
                "columns": sql.SQL(", ").join(map(sql.Identifier, columns)),
                "values": sql.SQL(", ").join(NEW_VALUES.get(name, sql.Identifier(name)) for name in columns),
            }
            await connection.execute(sql.SQL(COPY).format(**parts), {"rows": history, "copied": copied})
        sequence = "select setval(pg_get_serial_sequence('notify.ent_notification', 'id'), %s)"
        await connection.execute(sequence, [copied + history])
    await connection.execute("vacuum analyze")
    running.history += history
