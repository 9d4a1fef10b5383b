-- The holder keeps its rows.
update dispatcher.delivery d set lease_until = clock_timestamp() + %(lease)s
from unnest(%(ids)s::bigint[], %(fences)s::bigint[]) v (id, fence)
where d.notification_id = v.id and d.fence = v.fence and d.lease_until is not null
