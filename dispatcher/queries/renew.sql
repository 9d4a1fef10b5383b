-- The holder keeps its rows.
with held as materialized (
  select d.notification_id
  from unnest(%(ids)s::bigint[], %(fences)s::bigint[]) v (id, fence)
  join dispatcher.delivery d on d.notification_id = v.id and d.fence = v.fence
  where d.lease_until is not null
  order by d.notification_id
  for no key update of d
)
update dispatcher.delivery d set lease_until = clock_timestamp() + %(lease)s
from held where d.notification_id = held.notification_id
