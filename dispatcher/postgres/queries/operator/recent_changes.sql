-- Returns the rows that can have changed a moment ago: the newest rows, rows in work, rows that wait for a retry, and the
-- watched ids. Each part is bounded and read from the end of an index, so the cost does not grow with the table.
with watched as (
  (select n.id from {outbox} n order by n.id desc limit %(limit)s)
  union
  (select n.id from {outbox} n where n.notification_status = 'PROCESSING' order by n.id limit %(limit)s)
  union
  (select notification_id from dispatcher.delivery where next_attempt_at is not null
   order by next_attempt_at limit %(limit)s)
  union
  select unnest(%(watched_ids)s::bigint[])
)
select row_to_json(x) from (
  select n.id, n.notification_status::text as status, n.error_details ->> 'outcome' as outcome,
    left(w.workflow_key, 200) as workflow, n.enterprise_id::text as enterprise, cardinality(n.recipients) as recipients,
    d.generation, d.attempts, d.claimed_at, d.settled_at, d.next_attempt_at, d.dead_lettered_at,
    left(coalesce(d.last_error, n.error_details ->> 'error'), 2000) as error,
    {matching} as matches, clock_timestamp() as at
  from watched
  join {outbox} n on n.id = watched.id
  left join {workflow} w on w.id = n.notification_workflow_id
  left join dispatcher.delivery d on d.notification_id = n.id
  order by n.id
) x
