-- Removes this node. The rows it holds are PENDING again at once, except rows with a call of unknown outcome and rows that
-- another transaction has locked: their lease ends now, and the next sweep of another node repeats their run as it was.
with removed_node as (
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
leased as materialized (
  select held.*, n.id is null and exists (
    select from {outbox} n where n.id = held.notification_id and n.notification_status = 'PROCESSING'
  ) as locked
  from held
  left join lateral (
    select n.id from {outbox} n
    where not held.unknown and n.id = held.notification_id and n.notification_status = 'PROCESSING'
    offset 0
    for no key update of n skip locked
  ) n on true
),
released as (
  update dispatcher.delivery d
  set fence = d.fence + 1,
    lease_until = case when leased.unknown or leased.locked then clock_timestamp() end,
    attempts = greatest(0, d.attempts - case when leased.unknown then 0 else 1 end)
  from leased
  where d.notification_id = leased.notification_id
)
update {outbox} n set notification_status = 'PENDING', updated_at = now()
from leased
where n.id = leased.notification_id and not leased.unknown and not leased.locked and n.notification_status = 'PROCESSING'
returning n.id
