-- Hands rows back: nobody works on them, the status is PENDING again unless the owner changed it meanwhile. The run does
-- not count as an attempt. A row edited so that it is not due stays PENDING until it is.
with held as materialized (
  select d.notification_id
  from {fenced}
  cross join lateral (
    select d.notification_id
    from dispatcher.delivery d
    where d.notification_id = v.id and (d.fence = v.fence or v.fence is null and d.settled_at is null)
      and d.workflow_id = coalesce(%(workflow_id)s, d.workflow_id)
    offset 0
    for no key update of d
  ) d
),
freed as (
  update dispatcher.delivery d
  set fence = d.fence + 1, lease_owner = null, lease_until = null,
    attempts = greatest(0, d.attempts - 1)
  from held
  where d.notification_id = held.notification_id
  returning d.notification_id
)
update {outbox} n set notification_status = 'PENDING', updated_at = now()
from freed where n.id = freed.notification_id and n.notification_status = 'PROCESSING'
returning n.id
