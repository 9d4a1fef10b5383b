-- Rows whose lease ran out, by the workflow that carried them. The limit bounds one sweep; the next takes the rest.
select workflow_id, bool_and(batch is null) as solo, array_agg(notification_id) as ids, array_agg(fence) as fences
from (
  select notification_id, workflow_id, batch, fence
  from dispatcher.delivery
  where lease_until < clock_timestamp()
  order by lease_until, notification_id
  limit %(limit)s
) late
group by workflow_id
