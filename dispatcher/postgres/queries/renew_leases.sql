-- Extends the leases of rows that the caller still holds.
with leased as materialized (
  select d.notification_id
  from {leased_rows}
  cross join lateral (
    select d.notification_id
    from dispatcher.delivery d
    where d.notification_id = v.id and d.fence = v.fence and d.lease_until is not null
    offset 0
    for no key update of d
  ) d
)
update dispatcher.delivery d set lease_until = clock_timestamp() + %(lease)s
from leased where d.notification_id = leased.notification_id
