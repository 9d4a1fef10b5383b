-- This node goes. Rows it holds are PENDING again at once; those with a call whose outcome is unknown are left to the
-- next sweep of another node instead, which repeats their run as it was.
with gone as (
  delete from dispatcher.node where id = %(node)s
),
held as materialized (
  select d.notification_id, exists (
    select from dispatcher.recipient r
    where r.notification_id = d.notification_id and r.generation = d.generation and r.state in ('sending', 'unknown')
  ) as unknown
  from dispatcher.delivery d
  where d.lease_owner = %(node)s and d.lease_until is not null
  order by d.notification_id
  for no key update of d
),
freed as (
  update dispatcher.delivery d
  set fence = d.fence + 1,
    lease_until = case when held.unknown then clock_timestamp() end,
    attempts = greatest(0, d.attempts - case when held.unknown then 0 else 1 end)
  from held
  where d.notification_id = held.notification_id
)
update {outbox} n set notification_status = 'PENDING', updated_at = now()
from held where n.id = held.notification_id and not held.unknown and n.notification_status = 'PROCESSING'
returning n.id
