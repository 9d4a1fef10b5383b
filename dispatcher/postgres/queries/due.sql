-- Part of claim.sql while no backlog is known: all due rows, oldest first.
capacity as (
  -- Less capacity than one batch counts as none: during a backlog, batches should be full.
  select case when %(capacity)s - count(*) < %(batch_size)s then 0
    else least(%(limit)s, %(capacity)s - count(*)) end::integer as size,
    -- If a crash of the server loses a claim, the row is only claimed again. The next durable write flushes it anyway.
    set_config('synchronous_commit', 'off', true) as async_commit
  from dispatcher.delivery
  where lease_owner = %(node)s and lease_until is not null
),
immediate as materialized ({new_rows}),
scheduled as materialized (
  select n.id, {tenant} as tenant, n.scheduled_for as due, n.created_at, false as retry, null::text as batch
  from {outbox} n
  where {scheduled} and {not_refused}
  order by n.scheduled_for, n.id
  limit (select size from capacity)
  for no key update skip locked
),
retry_rows as materialized ({retry_rows}),
ranked as materialized (
  select *, row_number() over (order by due, batch, id) as rank
  from (select * from immediate union all select * from scheduled union all select * from retry_rows) due_rows
),
next_cursor as (
  select false as backlog, null::text as next_enterprise
)
