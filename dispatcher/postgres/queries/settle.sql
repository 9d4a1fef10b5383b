-- Writes what the calls taught us, and the status of every notification that is finished, in one statement. Only the
-- holder of the fence writes; only PROCESSING becomes something else, so a retraction or an owner's edit stands.
with held as materialized (
  select d.notification_id, d.generation
  from {fenced}
  cross join lateral (
    select d.notification_id, d.generation
    from dispatcher.delivery d
    where d.notification_id = v.id and d.fence = v.fence
    offset 0
    for no key update of d
  ) d
),
outcomes as (
  update dispatcher.recipient r
  set state = o.state, epoch = o.epoch, outcome = o.outcome, error = o.error
  from (
    -- From each outcome to its recipient by the whole key: a row can have thousands of them.
    select o.*, h.generation
    from unnest(%(notifications)s::bigint[], %(recipients)s::text[], %(states)s::text[], %(epochs)s::integer[],
      %(outcomes)s::text[], %(errors)s::text[]) o (notification_id, recipient, state, epoch, outcome, error)
    join held h using (notification_id)
    offset 0
  ) o
  where r.notification_id = o.notification_id and r.generation = o.generation and r.recipient = o.recipient
),
verdicts as (
  select v.*
  from unnest(%(done)s::bigint[], %(statuses)s::text[], %(details)s::text[], %(first_transactions)s::text[],
    %(waits)s::interval[], %(reasons)s::text[]) v (id, status, details, transaction_id, wait, reason)
  join held h on h.notification_id = v.id
),
heads as (
  update dispatcher.delivery d
  set settled_at = clock_timestamp(), lease_owner = null, lease_until = null, last_error = v.reason,
    next_attempt_at = now() + v.wait,
    dead_lettered_at = case when v.wait is null and v.status <> 'SENT' then clock_timestamp() end
  from verdicts v
  where d.notification_id = v.id
)
update {outbox} n
set notification_status = v.status::{status_type}, processed_at = clock_timestamp(), updated_at = clock_timestamp(),
  
  error_details = v.details::jsonb || jsonb_build_object('timestamp', clock_timestamp()),
  transaction_id = coalesce(n.transaction_id, v.transaction_id),
  channels = coalesce((select w.default_channels from {workflow} w where w.id = n.notification_workflow_id), '{{}}')
from verdicts v
where n.id = v.id and n.notification_status = 'PROCESSING'
returning n.id
