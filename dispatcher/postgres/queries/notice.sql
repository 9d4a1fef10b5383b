-- Notices retractions: whoever made them, by the status alone. Ends the generation, so that a row published again is a
-- new sending, and marks every recipient whom Novu may have been told about to be taken back there. A row in work is
-- left until its run has let go of it: what its calls brought about is known only then.
with found as materialized (
  select n.id
  from {outbox} n
  where n.notification_status = 'RETRACTED' and (n.error_details -> 'retraction') is null
    and (%(all_enterprises)s or {tenant} = any(%(enterprises)s))
  order by n.id
  limit %(limit)s
),
held as materialized (
  select d.notification_id, d.generation, d.claimed_at
  from (select id from found order by id offset 0) f
  cross join lateral (
    select d.notification_id, d.generation, d.claimed_at
    from dispatcher.delivery d
    where d.notification_id = f.id and d.lease_until is null
    offset 0
    for no key update of d skip locked
  ) d
),
noticed as (
  update {outbox} n
  set retracted_at = case when n.retracted_at > coalesce(held.claimed_at, '-infinity') then n.retracted_at
      else clock_timestamp() end,
    updated_at = clock_timestamp(),
    error_details = case when jsonb_typeof(n.error_details::jsonb) = 'object' then n.error_details::jsonb
      else '{{}}' end || jsonb_build_object('retraction', jsonb_build_object('noticed_at', clock_timestamp()))
  from found left join held on held.notification_id = found.id
  where n.id = found.id and n.notification_status = 'RETRACTED'
    and (held.notification_id is not null
      or not exists (select from dispatcher.delivery d where d.notification_id = found.id))
  returning n.id, n.created_at
),
ended as (
  update dispatcher.delivery d
  set fence = d.fence + 1, settled_at = coalesce(d.settled_at, clock_timestamp()), next_attempt_at = null
  from noticed
  where d.notification_id = noticed.id
),
doomed as (
  -- Of every generation, but not of another row that had the same id before this one was created.
  update dispatcher.recipient r set cancel_at = clock_timestamp(), cancel_tries = 0
  from noticed join held on held.notification_id = noticed.id
  where r.notification_id = noticed.id and r.state in ('accepted', 'sending', 'unknown') and r.cancel_at is null
    and (r.generation = held.generation or r.first_called_at >= noticed.created_at)
  returning r.notification_id
)
select noticed.id, count(doomed.notification_id)
from noticed left join doomed on doomed.notification_id = noticed.id
group by noticed.id
