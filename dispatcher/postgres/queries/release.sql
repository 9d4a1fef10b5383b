-- Releases rows: no run holds them, and the status is PENDING again unless the owner changed it meanwhile. The run does
-- not count as an attempt. A row that was edited so that it is not due stays PENDING until it is. Of a row that another
-- transaction has locked only the lease ends: the next sweep starts its run again, which releases it.
with leased as materialized (
  select d.notification_id, n.id is null and exists (
    select from {outbox} n where n.id = v.id and n.notification_status = 'PROCESSING'
  ) as locked
  from {leased_rows}
  cross join lateral (
    select d.notification_id
    from dispatcher.delivery d
    where d.notification_id = v.id and (d.fence = v.fence or v.fence is null and d.settled_at is null)
      and d.workflow_id = coalesce(%(workflow_id)s, d.workflow_id)
    offset 0
    for no key update of d
  ) d
  left join lateral (
    select n.id from {outbox} n
    where n.id = v.id and n.notification_status = 'PROCESSING'
    offset 0
    for no key update of n skip locked
  ) n on true
),
released as (
  update dispatcher.delivery d
  set fence = d.fence + 1, attempts = greatest(0, d.attempts - 1), lease_owner = null, reading_since = null,
    lease_until = case when leased.locked then clock_timestamp() end
  from leased
  where d.notification_id = leased.notification_id
)
update {outbox} n set notification_status = 'PENDING', updated_at = now()
from leased where n.id = leased.notification_id and not leased.locked and n.notification_status = 'PROCESSING'
returning n.id
