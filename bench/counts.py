"""Counts the calls, workflows and statements of a burst. Counts are free of the machine's noise.

PostgreSQL logs each statement of the contestant's sessions, because its package lacks pg_stat_statements. BEGIN, COMMIT
and ROLLBACK are not counted. The log costs time, so no rate is measured here.
"""

import dataclasses
import re
from collections.abc import Iterable

from bench.block import block
from bench.burst import burst, warmed_up
from bench.contestants import Contestant
from bench.cost import workflows
from bench.figures import Better, Value, Values
from bench.stack import Stack

EVENTS, ROWS, STATEMENTS = "events a bulk call", "rows a workflow", "statements a row"
LOG_STATEMENTS = {"PGOPTIONS": "-c log_statement=all"}
LOGGED = re.compile(rb"LOG:  (?:statement|execute [^:]*): *(.*)")
TRANSACTION = re.compile(rb"(begin|commit|rollback)\b", re.IGNORECASE)


async def one_block(stack: Stack, contestant: Contestant, rows: int) -> Values:
    """Return the counts of one burst."""
    logging = dataclasses.replace(contestant, environment={**contestant.environment, **LOG_STATEMENTS})
    async with block(stack, logging) as running:
        await warmed_up(running)
        earlier, requests = await workflows(running), len(await running.novu.requests())
        logged = stack.database_log.stat().st_size
        await burst(running, rows)
        with stack.database_log.open("rb") as log:
            log.seek(logged)
            statements = count_statements(log)
        bulk = [request for request in (await running.novu.requests())[requests:] if request.path.endswith("/bulk")]
        started = len(await workflows(running) - earlier)
    events = sum(len(request.subscribers) for request in bulk)
    if not statements:
        raise RuntimeError(f"{contestant.name}: PostgreSQL logged no statement")
    return {
        EVENTS: Value(events / len(bulk) if bulk else 0, "events", Better.HIGHER),
        ROWS: Value(rows / started, "rows", Better.HIGHER),
        STATEMENTS: Value(statements / rows, "statements"),
    }


def count_statements(log: Iterable[bytes]) -> int:
    """Return the number of logged statements that do not only begin or end a transaction."""
    found = (LOGGED.search(line) for line in log)
    return sum(not TRANSACTION.match(match[1]) for match in found if match)
