-- Returns the rows that a change would meet, with the facts that an operator should know before. Changes nothing.
select n.id, n.notification_status::text, (n.error_details -> 'retraction') is not null,
  d.next_attempt_at is not null, coalesce(not ({eligible}), true), coalesce(cardinality(n.recipients), 0), coalesce(r.accepted, 0), coalesce(r.unknown, 0),
  d.fence, coalesce({refused}, false), coalesce(d.pruned_in >= d.generation, false)
from {outbox} n
left join {workflow} w on w.id = n.notification_workflow_id
left join dispatcher.delivery d on d.notification_id = n.id
left join lateral (
  select count(*) filter (where state = 'accepted') as accepted,
    count(*) filter (where state in ('sending', 'unknown')) as unknown
  from dispatcher.recipient r
  where r.notification_id = n.id and r.generation = d.generation
) r on true
where {matching}
order by n.id
limit %(limit)s
