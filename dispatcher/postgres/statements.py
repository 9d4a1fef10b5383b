"""Composes the statements in queries/ from the names of the user's tables and the SQL parts that several share."""

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from typing import LiteralString, cast

from psycopg import sql

from dispatcher.models.call_result import UNCOUNTED_CODES
from dispatcher.models.notification import UNSUCCESSFUL
from dispatcher.postgres.pool import StatusColumn
from dispatcher.postgres.session import MISSING_TABLES


def literals(texts: Iterable[str]) -> sql.Composed:
    """Return the texts as a list for `in`."""
    return sql.SQL("({})").format(sql.SQL(", ").join(map(sql.Literal, texts)))


ELIGIBLE = sql.SQL(
    "n.publish_status = 'PUBLISH' and not n.deactivated"
    " and (n.scheduled_for is null or n.scheduled_for <= clock_timestamp())"
)
"""The condition under which a row may be sent. It is checked at the claim and again right before each call."""

PENDING = "n.notification_status = 'PENDING' and n.publish_status = 'PUBLISH' and not n.deactivated"
NEW = sql.SQL(f"{PENDING} and n.scheduled_for is null")
SCHEDULED = sql.SQL(f"{PENDING} and n.scheduled_for <= now()")
"""The conditions of the outbox's partial indexes, word for word: otherwise the planner does not use the indexes."""

REFUSED = sql.SQL("(d.refused_version is not null and n.notification_status <> 'SENT')")
"""Whether a rule of the table refused our last write to the row. A claim after an update by its owner ends that."""

NOT_REFUSED = sql.SQL(
    "not (n.id = any(array(select refused.notification_id from dispatcher.delivery refused"
    " where refused.refused_version is not null))"
    " and exists (select from dispatcher.delivery refused"
    " where refused.notification_id = n.id and refused.refused_version = {row_version}))"
)
"""Whether no rule of the table has refused our write to this version of the row. The few refused rows are read once for
a statement. After an update by its owner the row has another version, and is tried again."""
ROW_VERSION = sql.SQL("n.xmin::text")
TIMED_VERSION = sql.SQL("to_char(clock_timestamp(), 'YYYY-MM-DD HH24')")
"""A row's version for a role that may not read xmin: it is tried again in the next hour."""

TENANT = sql.SQL("coalesce(n.enterprise_id::text, '') collate \"C\"")
"""A row's enterprise as a text. All rows without an enterprise count as rows of one enterprise."""

IN_ALLOW_LIST = sql.SQL("(%(all_enterprises)s or {tenant} = any(%(enterprises)s))")

ENTERPRISES_WITH_NEW_ROWS = sql.SQL("(select n.enterprise_id as enterprise from {outbox} n where {new})")
ENTERPRISES_IN_ALLOW_LIST = sql.SQL(
    "(select n.enterprise_id as enterprise from {outbox} n where {new} and n.enterprise_id = any(%(enterprise_ids)s))"
)
"""The enterprises that have new rows, in the column's own type, as in the index. With an allow-list, only the rows of
its enterprises are read. `enterprise_ids` is `enterprises` once more: PostgreSQL gives it the type of the column."""

NEW_ROWS = sql.SQL(
    """
    -- `is null` does not tell the planner that the index has these rows by id, so they are ordered by both columns.
    select n.id, {tenant} as tenant, n.created_at as due, n.created_at, false as retry, null::text as batch
    from {outbox} n
    where {new} and {not_refused} and {of_enterprise}
    order by n.enterprise_id, n.id
    limit {most}
    for no key update skip locked
"""
)

TENANT_HAS_QUOTA = sql.SQL("not exists (select from tenant_quota where tenant = {tenant} and rows = 0)")

UNSUCCESSFUL_STATUSES = literals(status.value for status in UNSUCCESSFUL)
UNCOUNTED_OUTCOMES = literals(UNCOUNTED_CODES)

HAS_UNKNOWN_CALL = sql.SQL(
    "exists (select from dispatcher.recipient r where r.notification_id = d.notification_id"
    " and r.generation = d.generation and r.state in ('sending', 'unknown'))"
)
"""Whether a call of the row `d` has an unknown outcome. Only then does the row need the other rows of its batch."""

BATCH_IN_ALLOW_LIST = sql.SQL(
    "not exists (select from dispatcher.delivery member join {outbox} n on n.id = member.notification_id"
    " where member.batch = d.batch and member.next_attempt_at is not null and not {in_allow_list})"
)
"""Whether this node may claim the whole batch of the row `d`. Otherwise its unknown calls are looked up at Novu: two
nodes with different lists would start one workflow with different rows."""

RETRY_ROWS = sql.SQL(
    """
  -- Reads the few rows that wait for a retry first, and looks up each in the outbox. The outbox is never scanned.
  select n.id, n.tenant, d.next_attempt_at as due, n.created_at, true as retry,
    case when d.batch is not null and {has_unknown_call} and {batch_may_be_claimed} then d.batch end as batch
  from (
    select notification_id, generation, next_attempt_at, batch from dispatcher.delivery
    where next_attempt_at <= now()
    order by next_attempt_at
    offset 0
  ) d
  cross join lateral (
    select n.id, {tenant} as tenant, n.created_at from {outbox} n
    where n.id = d.notification_id
      and n.notification_status::text in {unsuccessful} and {eligible} and {not_refused} and {tenant_condition}
    offset 0
    for no key update of n skip locked
  ) n
  limit (select size from capacity) + %(batch_size)s
"""
)

BIRTH = sql.SQL(
    "substr(encode(sha256(convert_to(i.id::text || '/' || extract(epoch from n.created_at)::text, 'UTF8')), 'hex'),"
    " 1, 12)"
)
"""A row's birth token: 12 hex digits, the hash of the installation's id (`i`) and the row's creation time. After a
TRUNCATE or a restore a new row can have the id of an old one, but not its birth token."""

LEASED_ROWS = sql.SQL(
    "(select * from unnest(%(ids)s::bigint[], %(fences)s::bigint[]) v (id, fence) order by id offset 0) v"
)
"""The rows that a run holds, by id and fence. `offset 0` makes each statement look up the ledger from here: a plan that
was made while the ledger was small would scan it when it is large. All statements lock in this order, so no two of them
deadlock."""

SAME_GENERATION = sql.SQL("(excluded.next_attempt_at is not null or d.settled_at is null)")
"""An automatic retry and a released row keep their generation, whatever `created_at` says. PENDING after a final status
is a new generation."""

SAME_ROW = sql.SQL(
    """(d.settled_at is null or excluded.next_attempt_at is not null or d.birth = excluded.birth or exists (
        select from {outbox} n
        where n.id = d.notification_id and (n.error_details -> 'generation' is not null or exists (
          select from dispatcher.recipient r
          where r.notification_id = n.id and r.transaction_id = n.transaction_id
        ))
      ))"""
)
"""Whether a claimed row is the one that the ledger knows, and not a new row with the same id: the ledger has no outcome
yet, or the row has the same birth, or it carries an outcome of ours."""

ROW_COLUMNS = sql.SQL(
    """
    -- Each time is turned into seconds before the subtraction, because either may be infinite.
    extract(epoch from clock_timestamp())::double precision
      - coalesce(extract(epoch from greatest(n.created_at, n.scheduled_for)), '-infinity')::double precision
      as age_seconds,
    {eligible} as eligible,
    {tenant} as enterprise,
    n.notification_workflow_id is not null as has_workflow,
    w.workflow_key,
    -- A workflow without an enterprise serves all enterprises, any other serves only its own. The columns are compared
    -- as text, because their types may differ.
    coalesce(w.enterprise_id::text = n.enterprise_id::text, w.enterprise_id is null) as workflow_shared,
    coalesce(w.publish_status = 'PUBLISH' and not w.deactivated, false) as workflow_usable,
    x.payload_bytes, x.overrides_bytes,
    x.has_content,
    case when x.has_content then x.payload end as payload,
    case when x.has_content then x.overrides end as overrides,
    x.recipient_count,
    case when not a.unread and x.recipient_count <= %(max_recipients)s
      then array(select r::text from unnest(n.recipients) r) end as recipients"""
)
ROW_JOINS = sql.SQL(
    """left join {workflow} w on w.id = n.notification_workflow_id
  cross join lateral (select n.payload::text as payload, n.overrides::text as overrides offset 0) text
  cross join lateral (
    select text.*, octet_length(text.payload) as payload_bytes,
      coalesce(octet_length(text.overrides), 0) as overrides_bytes,
      coalesce(cardinality(n.recipients), 0) as recipient_count
    offset 0
  ) text_and_sizes
  cross join lateral (
    select text_and_sizes.*, not a.unread and a.attempts <= %(last_attempt)s
      and text_and_sizes.payload_bytes + text_and_sizes.overrides_bytes <= %(max_bytes)s as has_content
    offset 0
  ) x"""
)
"""The columns that `validation.parse_row` reads, and the tables beside the outbox `n` and the head `a` that they come
from. Payload and overrides are read only up to a size, and up to the attempt `last_attempt`. Of an `unread` row neither
they nor its recipients are read."""

QUERIES = (
    "acquire",
    "end_reading",
    "knows_workflow",
    "record_calls",
    "record_found",
    "settle",
    "release",
    "renew_leases",
    "find_expired",
    "rescue",
    "uncount_rescue",
    "adopt_orphans",
    "find_foreign_statuses",
    "put_statuses_back",
    "seconds_until_due",
    "count_leased",
    "heartbeat",
    "withdraw_heartbeat",
    "has_live_worker",
    "release_node",
    "notify_all",
    "mark_awake",
    "mark_asleep",
    "snapshot_xmax",
    "all_ended_before",
    "detect_retracted",
    "find_retracted",
    "refuse",
    "row_versions",
    "acquire_cancels",
    "record_cancels",
    "backlog_stats",
)


@dataclass(frozen=True, slots=True)
class TableNames:
    """The names of the user's two tables, quoted."""

    outbox: sql.Identifier
    workflow: sql.Identifier


def shared_parts(relations: TableNames) -> dict[str, sql.Composable]:
    """Return the SQL parts that depend only on the names of the user's tables, by the name of their placeholder."""
    parts: dict[str, sql.Composable] = {
        "outbox": relations.outbox,
        "workflow": relations.workflow,
        "eligible": ELIGIBLE,
        "pending": sql.SQL(PENDING),
        "new": NEW,
        "scheduled": SCHEDULED,
        "refused": REFUSED,
        "tenant": TENANT,
        "birth": BIRTH,
        "leased_rows": LEASED_ROWS,
        "unsuccessful": UNSUCCESSFUL_STATUSES,
        "uncounted": UNCOUNTED_OUTCOMES,
        "same_generation": SAME_GENERATION,
        "missing_tables": MISSING_TABLES,
        "has_unknown_call": HAS_UNKNOWN_CALL,
    }
    for name, part in (
        ("same_row", SAME_ROW),
        ("in_allow_list", IN_ALLOW_LIST),
        ("tenant_has_quota", TENANT_HAS_QUOTA),
        ("row_columns", ROW_COLUMNS),
        ("row_joins", ROW_JOINS),
    ):
        parts[name] = part.format(**parts)
    return parts


def compose_statements(relations: TableNames, status: StatusColumn, *, allow_list: bool) -> dict[str, bytes]:
    """Return the text of each statement by its name. `allow_list`: only the enterprises of a list are served."""
    parts = shared_parts(relations)
    parts["row_version"] = ROW_VERSION if status.reads_version else TIMED_VERSION
    parts["not_refused"] = NOT_REFUSED.format(**parts)
    # The catalogue's own spelling of the type, already quoted.
    parts["status_type"] = sql.SQL(cast("LiteralString", status.type))
    parts["outbox_name"] = sql.Literal(relations.outbox.as_string())
    enterprises = ENTERPRISES_IN_ALLOW_LIST if allow_list else ENTERPRISES_WITH_NEW_ROWS
    parts["enterprises_with_new_rows"] = enterprises.format(**parts)
    for name, of_enterprise, most in (
        ("new_rows", sql.SQL("true"), sql.SQL("(select size from capacity)")),
        ("new_rows_of_one", sql.SQL("n.enterprise_id = s.enterprise"), sql.SQL("s.rows")),
        ("new_rows_of_nobody", sql.SQL("n.enterprise_id is null"), sql.SQL("s.rows")),
    ):
        parts[name] = NEW_ROWS.format(**parts, of_enterprise=of_enterprise, most=most)
    has_quota = sql.SQL("{in_allow_list} and {tenant_has_quota}").format(**parts)
    parts["batch_may_be_claimed"] = BATCH_IN_ALLOW_LIST.format(**parts) if allow_list else sql.SQL("true")
    parts["retry_rows"] = RETRY_ROWS.format(**parts, tenant_condition=sql.SQL("true"))
    parts["retry_rows_fair"] = RETRY_ROWS.format(**parts, tenant_condition=has_quota)
    statements = {name: load_query(name, **parts).as_bytes() for name in QUERIES}
    parts["set_processing"] = load_query("set_processing", **parts)
    statements["try_claim"] = load_query("try_claim", **parts).as_bytes()
    for name, due in (("claim", "due"), ("claim_fair", "due_fair")):
        found = load_query(due, **parts)
        statements[name] = load_query("claim", due=found, **parts).as_bytes()
        statements[f"find_{name}"] = load_query("find_claim", due=found, **parts).as_bytes()
    return statements


def load_query(name: str, **parts: sql.Composable) -> sql.Composed:
    """Return the statement in queries/`name`.sql with its placeholders replaced by `parts`."""
    text = resources.files("dispatcher.postgres").joinpath("queries", f"{name}.sql").read_text(encoding="utf-8")
    return sql.SQL(cast("LiteralString", text)).format(**parts)
