-- Returns rows as a list shows them, newest first, below one id. As JSON, because every row must be shown: also
-- one with a time that Python cannot represent. Long texts are cut.
select row_to_json(x) from (
  select n.id, n.notification_status::text as status, n.error_details ->> 'outcome' as outcome, {title} as name,
    left(w.workflow_key, 200) as workflow, n.enterprise_id::text as enterprise, cardinality(n.recipients) as recipients,
    n.created_at, n.scheduled_for, d.generation, d.attempts, d.claimed_at, d.settled_at, d.next_attempt_at,
    d.dead_lettered_at, left(coalesce(d.last_error, n.error_details ->> 'error'), 2000) as error
  from {outbox} n
  left join {workflow} w on w.id = n.notification_workflow_id
  left join dispatcher.delivery d on d.notification_id = n.id
  where {below} and {matching}
  order by n.id desc
  limit %(limit)s
) x
