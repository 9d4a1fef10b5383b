-- One step of pruning: looks at the next heads of the ledger, and deletes at most `recipients` recipients. A head is
-- marked in the same statement, so that a pruned generation never looks like one that has lost recipients. It waits
-- for no lock: a head that another transaction has locked is left to the next walk.
with {prunable},
picked as materialized (
  select r.place, r.notification_id
  from (select * from prunable order by notification_id offset 0) p
  cross join lateral (
    select r.ctid as place, r.notification_id
    from dispatcher.recipient r
    where r.notification_id = p.notification_id and (p.gone or r.generation <= p.generation)
    offset 0
  ) r
  limit %(recipients)s
),
cut as materialized (
  -- The head of which recipients may be left. The next step begins with it.
  select case when count(*) = %(recipients)s then max(notification_id) end as id from picked
),
emptied as materialized (
  select p.notification_id, p.gone and (cut.id is null or p.notification_id < cut.id) as ends
  from prunable p cross join cut
),
recipients as (
  -- A recipient that was marked to be cancelled meanwhile has another place.
  delete from dispatcher.recipient r
  where r.ctid = any(array(select place from picked)) and r.cancel_at is null
  returning pg_column_size(r) as bytes
),
tombstones as (
  update dispatcher.delivery d set pruned_in = d.generation, recipient_count = null
  where d.notification_id = any(array(
    select e.notification_id from emptied e
    where not e.ends and e.notification_id in (select notification_id from picked)
  ))
),
heads as (
  delete from dispatcher.delivery d
  where d.notification_id = any(array(select notification_id from emptied where ends))
  returning pg_column_size(d) as bytes
)
select coalesce(cut.id - 1, (select max(notification_id) from walked having count(*) = %(heads)s)) as walked_to,
  (select count(*) from recipients) as recipients, (select count(*) from heads) as heads,
  coalesce((select sum(bytes) from recipients), 0)::bigint + coalesce((select sum(bytes) from heads), 0)::bigint as bytes
from cut
