-- The holder keeps its rows.
with held as materialized (
  -- Forced outwards from the array: a plan made while the ledger was small would scan it when it is large. Sorted,
  -- because every statement locks in this order, so that none waits for another in a circle.
  select d.notification_id
  from (select * from unnest(%(ids)s::bigint[], %(fences)s::bigint[]) v (id, fence) order by id offset 0) v
  cross join lateral (
    select d.notification_id
    from dispatcher.delivery d
    where d.notification_id = v.id and d.fence = v.fence and d.lease_until is not null
    offset 0
    for no key update of d
  ) d
)
update dispatcher.delivery d set lease_until = clock_timestamp() + %(lease)s
from held where d.notification_id = held.notification_id
