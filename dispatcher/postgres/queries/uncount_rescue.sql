-- The workflow of rescued rows was not started, so the rescue does not count as an attempt. Their lease stays: the next
-- rescue comes after it. A row that a run has acquired meanwhile has another fence.
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
update dispatcher.delivery d set attempts = greatest(0, d.attempts - 1)
from leased where d.notification_id = leased.notification_id
