"""The statements of outbox.py: the files in queries/, with the user's tables and the common conditions filled in."""

from dataclasses import dataclass
from importlib import resources
from typing import LiteralString, cast

from psycopg import sql

from dispatcher.postgres.pool import StatusColumn

GATES = sql.SQL(
    "n.publish_status = 'PUBLISH' and not n.deactivated"
    " and (n.scheduled_for is null or n.scheduled_for <= clock_timestamp())"
)
"""What has to hold for a row to be sent, at claim and again right before each call."""

PENDING = "n.notification_status = 'PENDING' and n.publish_status = 'PUBLISH' and not n.deactivated"
NEW = sql.SQL(f"{PENDING} and n.scheduled_for is null")
SCHEDULED = sql.SQL(f"{PENDING} and n.scheduled_for <= now()")
"""The conditions of the outbox's indexes, word for word."""

TENANT = sql.SQL("coalesce(n.enterprise_id::text, '') collate \"C\"")
"""An enterprise as the index knows it: rows without one are one enterprise's."""

WAITING = sql.SQL("(select {tenant} as tenant from {outbox} n where {new})")
WAITING_OF = sql.SQL(
    '(select t.tenant collate "C" as tenant from unnest(%(enterprises)s::text[]) t (tenant)'
    " where exists (select from {outbox} n where {new} and {tenant} = t.tenant))"
)
"""The enterprises of new rows; with an allow-list those of the list, so that nobody else's rows are looked at."""

FENCED = sql.SQL("(select * from unnest(%(ids)s::bigint[], %(fences)s::bigint[]) v (id, fence) order by id offset 0) v")
"""The rows a run holds. `offset 0` makes each statement look them up from here: a plan made while the ledger was small
would scan it when it is large. Sorted, because all lock in this order, so that none waits for another in a circle."""

SAME_GENERATION = sql.SQL("d.birth = excluded.birth and (excluded.next_attempt_at is not null or d.settled_at is null)")
"""An automatic retry and a row handed back go on; PENDING after an outcome is a new sending."""

QUERIES = (
    "take",
    "sending",
    "settle",
    "release",
    "renew",
    "expired",
    "rescue",
    "adopt",
    "next_due",
    "in_flight",
    "beat",
    "fall_silent",
    "has_worker",
    "farewell",
    "ring",
    "say_awake",
    "say_asleep",
    "newest_transaction",
    "ended_before",
    "notice",
    "cancelling",
    "cancelled",
    "numbers",
)


@dataclass(frozen=True, slots=True)
class Relations:
    """The user's tables."""

    outbox: sql.Identifier
    workflow: sql.Identifier


def compose(relations: Relations, status: StatusColumn, *, listed: bool) -> dict[str, bytes]:
    """Return every statement by its name, ready to be prepared; `listed`: only enterprises of a list are served."""
    parts: dict[str, sql.Composable] = {
        "outbox": relations.outbox,
        "workflow": relations.workflow,
        # The catalogue's own, already quoted spelling of a type.
        "status_type": sql.SQL(cast("LiteralString", status.type)),
        "gates": GATES,
        "outbox_name": sql.Literal(relations.outbox.as_string()),
        "pending": sql.SQL(PENDING),
        "new": NEW,
        "scheduled": SCHEDULED,
        "tenant": TENANT,
        "fenced": FENCED,
        "same_generation": SAME_GENERATION,
    }
    parts["waiting"] = (WAITING_OF if listed else WAITING).format(**parts)
    statements = {name: query(name, **parts).as_bytes() for name in QUERIES}
    for name, due in (("claim", "due"), ("claim_in_turn", "due_in_turn")):
        statements[name] = query("claim", due=query(due, **parts), **parts).as_bytes()
    return statements


def query(name: str, **parts: sql.Composable) -> sql.Composed:
    """Return the statement in queries/`name`.sql with its identifiers filled in."""
    text = resources.files("dispatcher.postgres").joinpath("queries", f"{name}.sql").read_text(encoding="utf-8")
    return sql.SQL(cast("LiteralString", text)).format(**parts)
