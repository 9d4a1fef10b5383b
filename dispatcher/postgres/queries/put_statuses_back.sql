-- Writes our status over one that another program wrote on a row whose generation has an outcome, and marks the generation,
-- because it is done once. A row that was claimed or changed meanwhile, or that another transaction has locked, is left.
-- `write`: false marks only, for a row whose table refuses our status.
with ended as materialized (
  select d.notification_id, v.ours
  from (
    select * from unnest(%(ids)s::bigint[], %(fences)s::bigint[], %(theirs)s::text[], %(ours)s::text[])
      v (id, fence, theirs, ours)
    order by id offset 0
  ) v
  cross join lateral (
    select d.notification_id from dispatcher.delivery d
    where d.notification_id = v.id and d.fence = v.fence and d.settled_at is not null and d.lease_until is null
    offset 0
    for no key update of d skip locked
  ) d
  cross join lateral (
    select n.id from {outbox} n
    where n.id = v.id and n.notification_status::text = v.theirs
    offset 0
    for no key update of n skip locked
  ) n
),
marked as (
  update dispatcher.delivery d set status_put_back_in = d.generation
  from ended where d.notification_id = ended.notification_id
)
update {outbox} n set notification_status = ended.ours::{status_type}, updated_at = clock_timestamp()
from ended where n.id = ended.notification_id and %(write)s
returning n.id
