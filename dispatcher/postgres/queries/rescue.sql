-- Rescues rows whose run is lost. Rows that still have to be sent get a new lease and are returned: the same workflow is
-- started again with the same members, so that a call with an unknown outcome can be repeated as it was. Other rows only
-- lose their lease.
with expired as materialized (
  select d.notification_id, d.orphaned, d.gone
  from {leased_rows}
  cross join lateral (
    select d.notification_id, d.settled_at is null and exists (
      select from {outbox} n where n.id = v.id and n.notification_status = 'PROCESSING'
    ) as orphaned,
      d.settled_at is null and not exists (select from {outbox} n where n.id = v.id) as gone
    from dispatcher.delivery d
    where d.notification_id = v.id and d.fence = v.fence
    offset 0
    for no key update of d
  ) d
),
fenced as (
  update dispatcher.delivery d
  set fence = d.fence + 1,
    attempts = case when expired.gone then 0 when expired.orphaned then d.attempts + 1 else d.attempts end,
    -- The owner deleted the row: its generation ends here. A new row with the same id continues with the next one.
    generation = d.generation + case when expired.gone then 1 else 0 end,
    first_generation = case when expired.gone then d.generation + 1 else d.first_generation end,
    recipient_count = case when expired.gone then 0 else d.recipient_count end,
    reading_since = case when not expired.gone then d.reading_since end,
    reading_deaths = case when not expired.gone then d.reading_deaths end,
    lease_owner = case when expired.orphaned then %(node)s end,
    lease_until = case when expired.orphaned then clock_timestamp() + %(lease)s end
  from expired
  where d.notification_id = expired.notification_id
)
select notification_id from expired where orphaned order by notification_id
