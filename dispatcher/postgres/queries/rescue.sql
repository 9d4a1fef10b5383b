-- Rescues rows whose run is lost. Rows that still have to be sent get a new lease and are returned: the same workflow is
-- started again with the same members, so that a call with an unknown outcome can be repeated as it was. Other rows only
-- lose their lease. A row that has to become PENDING and that another transaction has locked is left to the next sweep.
with expired as materialized (
  select d.notification_id, d.orphaned, d.gone, n.id is not null as free
  from {leased_rows}
  cross join lateral (
    select d.notification_id, d.settled_at is null and exists (
      select from {outbox} n where n.id = v.id and n.notification_status = 'PROCESSING'
    ) as orphaned,
      not exists (select from {outbox} n where n.id = v.id) as gone
    from dispatcher.delivery d
    where d.notification_id = v.id and d.fence = v.fence
    offset 0
    for no key update of d
  ) d
  left join lateral (
    select n.id from {outbox} n
    where n.id = d.notification_id and not d.orphaned and n.notification_status = 'PROCESSING'
    offset 0
    for no key update of n skip locked
  ) n on true
  where d.orphaned or n.id is not null or not exists (
    select from {outbox} n where n.id = d.notification_id and n.notification_status = 'PROCESSING'
  )
),
fenced as (
  update dispatcher.delivery d
  set fence = d.fence + 1,
    attempts = d.attempts + case when expired.orphaned then 1 else 0 end,
    -- The owner deleted the row: its generation ends here, so that a new row with the same id begins another.
    settled_at = case when expired.gone then coalesce(d.settled_at, clock_timestamp()) else d.settled_at end,
    lease_owner = case when expired.orphaned then %(node)s end,
    lease_until = case when expired.orphaned then clock_timestamp() + %(lease)s end
  from expired
  where d.notification_id = expired.notification_id
),
-- PROCESSING over an outcome that we know was written by hand: the owner wants the row sent again.
reopened as (
  update {outbox} n set notification_status = 'PENDING', updated_at = now()
  from expired
  where n.id = expired.notification_id and expired.free and n.notification_status = 'PROCESSING'
)
select notification_id from expired where orphaned order by notification_id
