-- The figures of the outbox and the ledger for /status and /metrics. The partial indexes that it reads are as small as
-- the backlog. Only `all_rows` counts every row, and not in a table of more than `max_counted_rows` rows.
with waiting_rows as (
  select notification_status, scheduled_for, created_at from (
    select n.notification_status, n.scheduled_for, n.created_at, {tenant} as tenant from {outbox} n where {new} and {not_refused}
    union all
    select n.notification_status, n.scheduled_for, n.created_at, {tenant} from {outbox} n
    where {pending} and n.scheduled_for is not null and {not_refused}
  ) pending
  where %(all_enterprises)s or tenant = any(%(enterprises)s)
),
due as (
  select count(*) filter (where scheduled_for is null or scheduled_for <= now()) as rows,
    min(greatest(created_at, scheduled_for))
      filter (where (scheduled_for is null or scheduled_for <= now()) and isfinite(created_at)) as since,
    count(*) filter (where scheduled_for > now()) as scheduled
  from waiting_rows
),
retry_rows as (
  select count(*) as waiting, count(*) filter (where next_attempt_at <= now()) as due
  from dispatcher.delivery where next_attempt_at is not null and refused_version is null
),
leased as (
  select count(*) as rows, count(*) filter (where lease_until < now()) as overdue
  from dispatcher.delivery where lease_until is not null
),
large as (
  select reltuples > %(max_counted_rows)s as large from pg_class where oid = {outbox_name}::regclass
)
select due.rows as due, due.scheduled,
  coalesce(greatest(extract(epoch from now() - due.since)::double precision, 0), 0) as oldest_age,
  retry_rows.waiting as retries, retry_rows.due as retries_due, leased.rows as in_flight, leased.overdue,
  (select count(*) from dispatcher.recipient where cancel_at is not null) as to_cancel,
  pg_notification_queue_usage() as queue_usage,
  pg_total_relation_size('dispatcher.delivery') + pg_total_relation_size('dispatcher.recipient') as ledger_bytes,
  pg_total_relation_size({outbox_name}::regclass) as outbox_bytes,
  (select coalesce(json_agg(json_build_object('id', id, 'role', role, 'host', host, 'version', version, 'mode', mode,
      'started_at', started_at, 'in_flight', in_flight, 'awake', coalesce(awake_until > clock_timestamp(), false),
      'seen_seconds_ago', extract(epoch from clock_timestamp() - seen_at),
      'last_sweep_at', last_sweep_at) order by started_at), '[]')
   from dispatcher.node where seen_at > clock_timestamp() - %(node_ttl)s) as nodes,
  case when %(all_rows)s and not large then
    (select coalesce(json_object_agg(status, rows), '{{}}') from (
      select n.notification_status::text as status, count(*) as rows from {outbox} n
      where {in_allow_list} group by 1) statuses) end as rows,
  -- Rows to which the table refuses our write. They are dead letters, too.
  (select count(*) from dispatcher.delivery d join {outbox} n on n.id = d.notification_id
   where {refused} and {in_allow_list}) as refused,
  -- A dead letter whose row was retracted or deleted needs no person any more.
  (select count(*) from dispatcher.delivery d join {outbox} n on n.id = d.notification_id
   where d.dead_lettered_at is not null
     and (n.notification_status::text in {unsuccessful} or {refused})
     and {in_allow_list}) as dead_letters
from due, retry_rows, leased, large
