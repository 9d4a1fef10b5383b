-- Hands rows back: nobody works on them, the status is PENDING again unless the owner changed it meanwhile. `spent` says
-- whether the run counts as an attempt. A row edited so that it is not due stays PENDING until it is.
with freed as (
  update dispatcher.delivery d
  set fence = d.fence + 1, lease_owner = null, lease_until = null,
    attempts = greatest(0, d.attempts - case when %(spent)s then 0 else 1 end)
  from unnest(%(ids)s::bigint[], %(fences)s::bigint[]) v (id, fence)
  where d.notification_id = v.id and (v.fence is null or d.fence = v.fence)
    and d.workflow_id = coalesce(%(workflow_id)s, d.workflow_id)
    and (v.fence is not null or d.settled_at is null)
  returning d.notification_id
)
update {outbox} n set notification_status = 'PENDING', updated_at = now()
from freed where n.id = freed.notification_id and n.notification_status = 'PROCESSING'
returning n.id
