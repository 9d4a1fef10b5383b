-- Writes the outcomes of calls, and the final status of every notification that is finished, in one statement. Only the
-- holder of the fence writes. Only PROCESSING is replaced, so a retraction or an owner's edit is kept; and PENDING, which is
-- a wish to send again only over an outcome. A notification that another transaction has locked is returned as such: of it
-- only the outcomes are written, and nothing waits.
with leased as materialized (
  select d.notification_id, d.generation, d.unsettled
  from {leased_rows}
  cross join lateral (
    select d.notification_id, d.generation, d.settled_at is null as unsettled
    from dispatcher.delivery d
    where d.notification_id = v.id and d.fence = v.fence
    offset 0
    for no key update of d
  ) d
),
outcomes as (
  update dispatcher.recipient r
  set state = o.state, epoch = o.epoch, outcome = o.outcome, error = o.error,
    -- A call that has its outcome is never repeated. The key is '' and not NULL, so that a recipient whose outcome is
    -- doubted later is looked up at Novu.
    call_key = case when o.state in ('accepted', 'refused', 'cancelled') then '' else r.call_key end,
    call_ordinal = case when o.state in ('accepted', 'refused', 'cancelled') then null else r.call_ordinal end,
    body_hash = case when o.state in ('accepted', 'refused', 'cancelled') then null else r.body_hash end,
    -- Only calls that Novu may have worked on are counted.
    attempts = greatest(0, r.attempts - (coalesce(o.outcome, '') in {uncounted})::integer)
  from (
    -- From each outcome to its recipient by the whole key: a row can have thousands of them.
    select o.*, h.generation
    from unnest(%(notifications)s::bigint[], %(recipients)s::text[], %(states)s::text[], %(epochs)s::integer[],
      %(outcomes)s::text[], %(errors)s::text[]) o (notification_id, recipient, state, epoch, outcome, error)
    join leased h using (notification_id)
    offset 0
  ) o
  where r.notification_id = o.notification_id and r.generation = o.generation and r.recipient = o.recipient
),
final as materialized (
  select v.*, n.id is not null as free,
    n.id is null and exists (
      select from {outbox} n
      where n.id = v.id and (n.notification_status = 'PROCESSING' or n.notification_status = 'PENDING' and h.unsettled)
    ) as locked
  from unnest(%(final_ids)s::bigint[], %(statuses)s::text[], %(error_details)s::text[], %(first_transactions)s::text[],
    %(retry_ins)s::interval[], %(reasons)s::text[]) v (id, status, error_details, transaction_id, retry_in, reason)
  join leased h on h.notification_id = v.id
  left join lateral (
    select n.id from {outbox} n
    where n.id = v.id and (n.notification_status = 'PROCESSING' or n.notification_status = 'PENDING' and h.unsettled)
    offset 0
    for no key update of n skip locked
  ) n on true
),
deliveries as (
  update dispatcher.delivery d
  set settled_at = clock_timestamp(), lease_owner = null, lease_until = null, last_error = v.reason, refused_version = null,
    next_attempt_at = now() + v.retry_in,
    recipient_count = (
      select count(*) from dispatcher.recipient r where r.notification_id = d.notification_id and r.generation = d.generation
    ),
    reading_since = case when v.retry_in is not null then d.reading_since end,
    reading_deaths = case when v.retry_in is not null then d.reading_deaths end,
    dead_lettered_at = case when v.retry_in is null and v.status <> 'SENT' then clock_timestamp() end
  from final v
  where d.notification_id = v.id and not v.locked
),
written as (
  update {outbox} n
  set notification_status = v.status::{status_type}, processed_at = clock_timestamp(), updated_at = clock_timestamp(),
    error_details = v.error_details::jsonb || jsonb_build_object('timestamp', clock_timestamp()),
    transaction_id = coalesce(n.transaction_id, v.transaction_id),
    channels = coalesce((select w.default_channels from {workflow} w where w.id = n.notification_workflow_id), '{{}}')
  from final v
  where n.id = v.id and v.free
  returning n.id
)
select id, false as locked from written
union all
select id, true from final where locked
