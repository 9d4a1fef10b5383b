-- A run takes its rows: a new fence (whoever worked on them before is shut out) and a fresh lease. Returns what a call
-- to Novu needs; JSON as text, so that reading a row cannot fail, and not at all when it is too large to be sent. Large
-- rows come in parts: those with the lowest ids, up to `part_bytes` and at least one.
with held as materialized (
  select d.notification_id
  from (select * from unnest(%(ids)s::bigint[]) v (id) order by id offset 0) v  -- as in outbox.FENCED
  cross join lateral (
    select d.notification_id
    from dispatcher.delivery d
    where d.notification_id = v.id and d.workflow_id = %(workflow_id)s and d.settled_at is null
      and exists (select from {outbox} n where n.id = v.id and n.notification_status = 'PROCESSING')
    offset 0
    for no key update of d
  ) d
),
taken as (
  update dispatcher.delivery d
  set fence = d.fence + 1, lease_owner = %(node)s, lease_until = clock_timestamp() + %(lease)s
  from held
  where d.notification_id = held.notification_id
  returning d.notification_id, d.birth, d.generation, d.fence, d.attempts, clock_timestamp() - d.first_claimed_at as age
)
select * from (
  select t.notification_id, t.birth, t.generation, t.fence, t.attempts, t.age,
    -- Not the difference of the times: they may be infinite.
    extract(epoch from clock_timestamp())::double precision
      - coalesce(extract(epoch from greatest(n.created_at, n.scheduled_for)), '-infinity')::double precision as waited,
    {gates} as open,
    n.notification_workflow_id is not null as has_workflow,
    w.workflow_key,
    -- A workflow without an enterprise is everybody's, any other its enterprise's alone. As text: the types may differ.
    coalesce(w.enterprise_id::text = n.enterprise_id::text, w.enterprise_id is null) as workflow_shared,
    coalesce(w.publish_status = 'PUBLISH' and not w.deactivated, false) as workflow_usable,
    x.payload_bytes, x.overrides_bytes,
    case when x.payload_bytes <= %(max_bytes)s then x.payload end as payload,
    case when x.overrides_bytes <= %(max_bytes)s then x.overrides end as overrides,
    array(select r::text from unnest(n.recipients) r) as recipients,
    (select json_agg(json_build_array(r.recipient, r.state, r.epoch,
       json_build_array(r.call_key, r.call_ordinal, r.body_hash),
       json_build_array(extract(epoch from clock_timestamp() - r.last_called_at),
         extract(epoch from clock_timestamp() - r.first_called_at)),
       r.outcome, r.error))
     from dispatcher.recipient r
     where r.notification_id = t.notification_id and r.generation = t.generation) as ledger,
    sum(x.payload_bytes + x.overrides_bytes) over (order by t.notification_id rows unbounded preceding)
      - x.payload_bytes - x.overrides_bytes as bytes_before
  from taken t
  -- As with a claim: the write that counts is the one before the call, and it flushes this one.
  cross join (select set_config('synchronous_commit', 'off', true) offset 0) unhurried
  join {outbox} n on n.id = t.notification_id
  left join {workflow} w on w.id = n.notification_workflow_id
  cross join lateral (select n.payload::text as payload, n.overrides::text as overrides offset 0) text
  cross join lateral (
    select text.*, octet_length(text.payload) as payload_bytes, coalesce(octet_length(text.overrides), 0) as overrides_bytes
    offset 0
  ) x
) loaded
where bytes_before < %(part_bytes)s
order by notification_id
