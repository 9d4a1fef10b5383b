-- Rows as take.sql hands them to a run, but nobody takes them: without a ledger, and so without what was sent before.
select n.id as notification_id, '' as birth, 1 as generation, 0 as fence, 1 as attempts, interval '0' as age,
  extract(epoch from clock_timestamp())::double precision
    - coalesce(extract(epoch from greatest(n.created_at, n.scheduled_for)), '-infinity')::double precision as waited,
  {gates} as open,
  n.notification_workflow_id is not null as has_workflow,
  w.workflow_key,
  coalesce(w.enterprise_id::text = n.enterprise_id::text, w.enterprise_id is null) as workflow_shared,
  coalesce(w.publish_status = 'PUBLISH' and not w.deactivated, false) as workflow_usable,
  x.payload_bytes, x.overrides_bytes,
  case when x.payload_bytes <= %(max_bytes)s then x.payload end as payload,
  case when x.overrides_bytes <= %(max_bytes)s then x.overrides end as overrides,
  array(select r::text from unnest(n.recipients) r) as recipients,
  null as ledger
from {outbox} n
left join {workflow} w on w.id = n.notification_workflow_id
cross join lateral (select n.payload::text as payload, n.overrides::text as overrides offset 0) text
cross join lateral (
  select text.*, octet_length(text.payload) as payload_bytes, coalesce(octet_length(text.overrides), 0) as overrides_bytes
  offset 0
) x
where n.id = any(%(ids)s)
order by n.id
