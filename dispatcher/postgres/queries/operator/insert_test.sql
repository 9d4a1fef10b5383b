-- Writes a test's notification as an application would, and records it. Several workflows may have the same key: with an
-- enterprise its own workflow comes first, without one the workflow that serves all enterprises.
with wanted as (
  select w.id, w.enterprise_id from {workflow} w
  where w.workflow_key = %(key)s and w.publish_status = 'PUBLISH' and not w.deactivated
    and (w.enterprise_id is null or %(enterprise)s::text is null or w.enterprise_id::text = %(enterprise)s::text)
  order by (w.enterprise_id is null) = (%(enterprise)s::text is null) desc, w.id
  limit 1
),
written as (
  insert into {outbox} ({columns}) select {values} from wanted w
  returning id, enterprise_id
),
recorded as (
  insert into dispatcher.action (actor, action, notification_ids, detail)
  select session_user || coalesce(' (' || %(actor)s::text || ')', ''), 'send-test', array[id],
    jsonb_build_object('workflow', %(key)s::text, 'recipient', %(recipient)s::text)::text
  from written
)
select id, enterprise_id::text, clock_timestamp() from written
