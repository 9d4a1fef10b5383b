-- Part of claim.sql while a backlog lasts: enterprises have their turn one after the other, a share of the room each.
-- New rows are fair however many wait before them; scheduled rows and retries are looked at in the order of their time,
-- and then take their turn with the others.
held as materialized (
  -- What this node holds, by enterprise.
  select n.tenant, count(*)::integer as rows
  from (
    select notification_id from dispatcher.delivery
    where lease_owner = %(node)s and lease_until is not null
    offset 0
  ) d
  left join lateral (select {tenant} as tenant from {outbox} n where n.id = d.notification_id offset 0) n on true
  group by n.tenant
),
room as materialized (
  -- An enterprise alone has room for the whole capacity; beside what others hold for less, but always for some.
  select case when newcomer < %(batch_size)s then 0 else least(%(limit)s, 2 * newcomer) end as size, newcomer, rows,
    -- A claim lost in a crash of the server is only claimed again, and the next durable write flushes it anyway.
    set_config('synchronous_commit', 'off', true) as unhurried
  from (select coalesce(sum(rows), 0)::integer as rows from held) held
  cross join lateral (select %(capacity)s - held.rows / 2 as newcomer) c
),
allowed as materialized (
  -- Less room than one batch counts as none: under backlog, batches should be whole.
  select h.tenant, case when c.rows < %(batch_size)s then 0 else c.rows end as rows
  from held h
  cross join room
  cross join lateral (select %(capacity)s - (room.rows + h.rows) / 2 as rows) c
),
waiting (tenant, place) as (
  -- Enterprises with new rows, found by hopping through the index from one to the next.
  select coalesce(
    (select tenant from {waiting} w where tenant >= %(turn)s order by tenant limit 1),
    (select tenant from {waiting} w order by tenant limit 1)), 1
  union all
  select (select n.tenant from {waiting} n where n.tenant > w.tenant order by n.tenant limit 1), place + 1
  from waiting w
  where tenant is not null and place <= %(turns)s
),
served as materialized (
  -- The room is shared by those who may have some of it.
  select tenant, least(greatest(1, size / greatest(1, count(*) filter (where rows > 0) over ())), rows) as share
  from (
    select w.tenant, room.size, coalesce(a.rows, room.newcomer) as rows
    from waiting w cross join room
    left join allowed a on a.tenant = w.tenant
    where w.tenant is not null and w.place <= %(turns)s
  ) w
),
immediate as materialized (
  select n.*
  from served s
  cross join lateral (
    select n.id, {tenant} as tenant, n.created_at as due, n.created_at, false as retry, null::text as batch
    from {outbox} n
    where {new} and {tenant} = s.tenant
    order by n.id
    limit s.share
    for no key update skip locked
  ) n
  limit (select size from room)
),
first_scheduled as materialized (
  select n.id
  from {outbox} n
  where {scheduled} and (%(all_enterprises)s or {tenant} = any(%(enterprises)s))
  order by n.scheduled_for, n.id
  limit (select size from room)
),
scheduled as materialized (
  select n.*
  from first_scheduled s
  cross join lateral (
    select n.id, {tenant} as tenant, n.scheduled_for as due, n.created_at, false as retry, null::text as batch
    from {outbox} n
    where n.id = s.id and {scheduled} and not exists (select from allowed where tenant = {tenant} and rows = 0)
    offset 0
    for no key update of n skip locked
  ) n
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
      and (%(all_enterprises)s or {tenant} = any(%(enterprises)s))
      and not exists (select from allowed where tenant = {tenant} and rows = 0)
    offset 0
    for no key update of n skip locked
  ) n
  limit (select size from room) + %(batch_size)s
),
found as materialized (
  select *, row_number() over (partition by tenant order by due, batch, id) as place
  from (select * from immediate union all select * from scheduled union all select * from again) due_rows
),
ranked as materialized (
  -- The first of each enterprise, the second of each, and so on; a batch counts as its first member.
  select f.*, row_number() over (order by f.turn, f.tenant, f.batch, f.id) as rank
  from (
    select *, min(place) over (partition by tenant, coalesce(batch, id::text)) as turn,
      max(place) over (partition by tenant, coalesce(batch, id::text)) as last
    from found
  ) f
  cross join room
  left join allowed a on a.tenant = f.tenant
  where f.last <= coalesce(a.rows, room.newcomer)
),
more as materialized (
  -- Something may be due that is not taken, as far as this can be known; and with whom the next claim begins.
  select case when size = 0 then %(turn)s else coalesce((select tenant from waiting where place > %(turns)s), '') end as turn,
    %(turn)s <> '' or exists (select from waiting where tenant is not null and place > %(turns)s)
      or exists (select from served s where s.share <= (select count(*) from immediate i where i.tenant = s.tenant))
      or (select count(*) from first_scheduled) >= size
      or (select count(*) from again) >= size + %(batch_size)s
      or (select count(*) from found) > (select count(*) from ranked where rank <= size) as more
  from room
)
