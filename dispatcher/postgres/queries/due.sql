-- Part of claim.sql while no backlog is known: whatever is due.
room as (
  -- Less room than one batch counts as none: under backlog, batches should be whole.
  select case when %(capacity)s - count(*) < %(batch_size)s then 0
    else least(%(limit)s, %(capacity)s - count(*)) end::integer as size,
    -- A claim lost in a crash of the server is only claimed again, and the next durable write flushes it anyway.
    set_config('synchronous_commit', 'off', true) as unhurried
  from dispatcher.delivery
  where lease_owner = %(node)s and lease_until is not null
),
immediate as materialized (
  select n.id, {tenant} as tenant, n.created_at as due, n.created_at, false as retry, null::text as batch
  from {outbox} n
  where {new}
  order by {tenant}, n.id
  limit (select size from room)
  for no key update skip locked
),
scheduled as materialized (
  select n.id, {tenant} as tenant, n.scheduled_for as due, n.created_at, false as retry, null::text as batch
  from {outbox} n
  where {scheduled}
  order by n.scheduled_for, n.id
  limit (select size from room)
  for no key update skip locked
),
again as materialized (
  -- From the few rows that wait for a retry to the outbox, never the other way.
  select n.id, n.tenant, d.next_attempt_at as due, n.created_at, true as retry, d.batch
  from (
    select notification_id, next_attempt_at, batch from dispatcher.delivery
    where next_attempt_at <= now()
    order by next_attempt_at
    offset 0
  ) d
  cross join lateral (
    select n.id, {tenant} as tenant, n.created_at from {outbox} n
    where n.id = d.notification_id
      and n.notification_status::text in ('FAILED', 'PARTIAL')
      and n.publish_status = 'PUBLISH' and not n.deactivated
      and (n.scheduled_for is null or n.scheduled_for <= now())
    offset 0
    for no key update of n skip locked
  ) n
  limit (select size from room) + %(batch_size)s
),
ranked as materialized (
  select *, row_number() over (order by due, batch, id) as rank
  from (select * from immediate union all select * from scheduled union all select * from again) due_rows
),
more as (
  select false as more, '' as turn
)
