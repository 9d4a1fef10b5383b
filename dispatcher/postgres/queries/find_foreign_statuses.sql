-- Finds rows whose generation has an outcome, and whose status is neither the outcome's nor a wish: PENDING (send again) or
-- RETRACTED (take back). It looks at the next part of the ledger, and at all PROCESSING rows, which have an index. Only
-- reads. Always returns at least one row, with the place in the ledger where the next search goes on.
with walked as materialized (
  select notification_id from dispatcher.delivery
  where notification_id > %(after)s
  order by notification_id
  limit %(limit)s
),
processing as materialized (
  select n.id
  from {outbox} n
  cross join lateral (
    select from dispatcher.delivery d
    where d.notification_id = n.id and d.settled_at is not null and d.lease_until is null
      and d.status_put_back_in is distinct from d.generation
    offset 0
  ) d
  where n.notification_status = 'PROCESSING' and {in_allow_list}
  limit %(limit)s
),
replaced as (
  select d.notification_id, d.fence, n.theirs, ours.label as ours, coalesce(d.status_put_back_in = d.generation, false) as was_put_back
  from (select notification_id from walked union select id from processing) c
  cross join lateral (
    select * from dispatcher.delivery d
    where d.notification_id = c.notification_id and d.settled_at is not null and d.lease_until is null
    offset 0
  ) d
  cross join lateral (
    select n.notification_status::text as theirs, n.error_details -> 'retraction' is not null as retracted
    from {outbox} n
    where n.id = d.notification_id and n.notification_status::text not in ('PENDING', 'RETRACTED') and {in_allow_list}
    offset 0
  ) n
  -- The status of the outcome. `retracted` is for heads that an earlier version wrote, and so are the recipients.
  cross join lateral (select case
    when d.retracted_in = d.generation or n.retracted then 'RETRACTED'
    when d.last_error is null and n.theirs = 'SENT' then 'SENT'
    when d.last_error is null then case when exists (
        select from dispatcher.recipient r
        where r.notification_id = d.notification_id and r.generation = d.generation and r.state <> 'accepted'
          and r.outcome is distinct from 'withdrawn'
      ) then 'RETRACTED' else 'SENT' end
    when exists (
        select from dispatcher.recipient r
        where r.notification_id = d.notification_id and r.generation = d.generation and r.state = 'accepted'
      ) then %(partial)s
    else 'FAILED' end as label) ours
  where n.theirs <> ours.label
)
select coalesce((select max(notification_id) from walked having count(*) = %(limit)s), 0) as walked_to, replaced.*
from (values (1)) always left join replaced on true
order by replaced.notification_id
