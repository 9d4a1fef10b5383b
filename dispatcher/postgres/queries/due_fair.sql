-- Part of claim.sql while a backlog lasts: each enterprise gets an equal share of the capacity. New rows are shared
-- fairly however many wait before them. Scheduled rows and retries are read in the order of their time, and then take
-- turns with the rows of other enterprises.
leased as materialized (
  -- The rows that this node holds, by enterprise.
  select n.tenant, count(*)::integer as rows
  from (
    select notification_id from dispatcher.delivery
    where lease_owner = %(node)s and lease_until is not null
    offset 0
  ) d
  left join lateral (select {tenant} as tenant from {outbox} n where n.id = d.notification_id offset 0) n on true
  group by n.tenant
),
capacity as materialized (
  -- One enterprise alone may use the whole capacity. Beside the rows of others it may use less, but never nothing.
  select case when quota_new_tenant < %(batch_size)s then 0 else least(%(limit)s, 2 * quota_new_tenant) end as size,
    quota_new_tenant, rows,
    -- Each enterprise that has its turn gets at least one row, so this claim serves no more enterprises than rows.
    least(%(max_tenants)s, case when quota_new_tenant < %(batch_size)s then 0
      else least(%(limit)s, 2 * quota_new_tenant) end) as turns,
    -- If a crash of the server loses a claim, the row is only claimed again. The next durable write flushes it anyway.
    set_config('synchronous_commit', 'off', true) as async_commit
  from (select coalesce(sum(rows), 0)::integer as rows from leased) leased
  cross join lateral (select %(capacity)s - leased.rows / 2 as quota_new_tenant) c
),
tenant_quota as materialized (
  -- Less capacity than one batch counts as none: during a backlog, batches should be full.
  select l.tenant, case when c.rows < %(batch_size)s then 0 else c.rows end as rows
  from leased l
  cross join capacity
  cross join lateral (select %(capacity)s - (capacity.rows + l.rows) / 2 as rows) c
),
first_turn as materialized (
  -- The enterprise with which this claim goes on in the round of all enterprises. Null: a new round begins.
  select f.enterprise, f.enterprise is null and %(all_enterprises)s
    and exists (select from {outbox} n where {new} and n.enterprise_id is null) as nobody
  from (
    select (select w.enterprise from {enterprises_with_new_rows} w where w.enterprise >= %(next_enterprise)s
      order by w.enterprise limit 1) as enterprise
    offset 0
  ) f
),
enterprises (enterprise, ordinal) as (
  -- Enterprises with new rows, found by index lookups from one to the next. Rows without an enterprise are not found so:
  -- they have the first turn of a round.
  select coalesce(f.enterprise, (select w.enterprise from {enterprises_with_new_rows} w order by w.enterprise limit 1)),
    case when f.nobody then 2 else 1 end
  from first_turn f
  union all
  select (select w.enterprise from {enterprises_with_new_rows} w where w.enterprise > e.enterprise
    order by w.enterprise limit 1), ordinal + 1
  from enterprises e
  where enterprise is not null and ordinal <= (select turns from capacity)
),
tenants as materialized (
  select enterprise, coalesce(enterprise::text, '') collate "C" as tenant, ordinal
  from enterprises
  where enterprise is not null
  union all
  select null, '' collate "C", 1 from first_turn where nobody
),
tenant_share as materialized (
  -- The capacity is divided among the enterprises that may use some of it.
  select tenant, enterprise, least(greatest(1, size / greatest(1, count(*) filter (where rows > 0) over ())), rows) as rows
  from (
    select t.tenant, t.enterprise, capacity.size, coalesce(q.rows, capacity.quota_new_tenant) as rows
    from tenants t cross join capacity
    left join tenant_quota q on q.tenant = t.tenant
    where t.ordinal <= capacity.turns
  ) t
),
immediate as materialized (
  select n.* from tenant_share s cross join lateral ({new_rows_of_nobody}) n where s.enterprise is null
  union all
  select n.* from tenant_share s cross join lateral ({new_rows_of_one}) n
  limit (select size from capacity)
),
first_scheduled as materialized (
  select n.id
  from {outbox} n
  where {scheduled} and {not_refused} and {in_allow_list}
  order by n.scheduled_for, n.id
  limit (select size from capacity)
),
scheduled as materialized (
  select n.*
  from first_scheduled s
  cross join lateral (
    select n.id, {tenant} as tenant, n.scheduled_for as due, n.created_at, false as retry, null::text as batch
    from {outbox} n
    where n.id = s.id and {scheduled} and {tenant_has_quota}
    offset 0
    for no key update of n skip locked
  ) n
),
retry_rows as materialized ({retry_rows_fair}),
found as materialized (
  select *, row_number() over (partition by tenant order by due, batch, id) as ordinal
  from (select * from immediate union all select * from scheduled union all select * from retry_rows) due_rows
),
ranked as materialized (
  -- The first row of each enterprise, then the second of each, and so on. Rows that are claimed together count as the
  -- first of them, and each of their enterprises needs the capacity for its own.
  select f.*, row_number() over (order by f.first_ordinal, f.first_tenant, f.unit, f.id) as rank
  from (
    select d.*,
      min(ordinal) over (partition by unit) as first_ordinal,
      min(d.tenant) over (partition by unit) as first_tenant,
      bool_and(ordinal <= coalesce(q.rows, capacity.quota_new_tenant)) over (partition by unit) as has_quota
    from (select *, coalesce(batch, id::text) as unit from found) d
    cross join capacity
    left join tenant_quota q on q.tenant = d.tenant
  ) f
  where f.has_quota
),
next_cursor as materialized (
  -- Whether rows may be due that this claim does not take, as far as this can be known; and the enterprise with which
  -- the next claim begins.
  select (case when size = 0 then (select enterprise from first_turn)
      else (select enterprise from tenants where ordinal > turns) end)::text as next_enterprise,
    (select enterprise from first_turn) is not null or exists (select from tenants where ordinal > turns)
      or exists (select from tenant_share s where s.rows <= (select count(*) from immediate i where i.tenant = s.tenant))
      or (select count(*) from first_scheduled) >= size
      or (select count(*) from retry_rows) >= size + %(batch_size)s
      or (select count(*) from found) > (select count(*) from ranked where rank <= size) as backlog
  from capacity
)
