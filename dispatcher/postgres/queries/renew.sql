-- The holder keeps its rows.
with held as materialized (
  select d.notification_id
  from {fenced}
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
