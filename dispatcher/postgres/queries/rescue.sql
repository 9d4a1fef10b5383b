-- Rows whose run is lost. Those that are still to be sent get a new lease and are returned: the same workflow, with the
-- same members, is started again, so that a call with an unknown outcome can be repeated as it was. The others are let go.
with held as materialized (
  select d.notification_id, d.lost
  from {fenced}
  cross join lateral (
    select d.notification_id, d.settled_at is null and exists (
      select from {outbox} n where n.id = v.id and n.notification_status = 'PROCESSING'
    ) as lost
    from dispatcher.delivery d
    where d.notification_id = v.id and d.fence = v.fence
    offset 0
    for no key update of d
  ) d
),
moved as (
  update dispatcher.delivery d
  set fence = d.fence + 1,
    attempts = d.attempts + case when held.lost then 1 else 0 end,
    lease_owner = case when held.lost then %(node)s end,
    lease_until = case when held.lost then clock_timestamp() + %(lease)s end
  from held
  where d.notification_id = held.notification_id
),
-- PROCESSING written by hand over an outcome we know: the owner wants it sent again.
reopened as (
  update {outbox} n set notification_status = 'PENDING', updated_at = now()
  from held
  where n.id = held.notification_id and not held.lost and n.notification_status = 'PROCESSING'
)
select notification_id from held where lost order by notification_id
