-- Rows whose lease ran out, by the workflow that carried them: all of a workflow's rows, because it is started again with
-- the same members. The limit bounds one sweep; the next takes the rest.
select workflow_id, bool_and(batch is null) as first_try, array_agg(notification_id) as ids, array_agg(fence) as fences
from dispatcher.delivery
where lease_until is not null and workflow_id in (
  select workflow_id
  from dispatcher.delivery
  where lease_until < clock_timestamp()
  order by lease_until, notification_id
  limit %(limit)s
)
group by workflow_id
having max(lease_until) < clock_timestamp()
