-- Counts what prune.sql would delete of the next heads of the ledger. Changes and locks nothing.
with {prunable}
select (select max(notification_id) from walked having count(*) = %(heads)s) as walked_to,
  coalesce(sum(r.rows), 0)::bigint as recipients, count(*) filter (where p.gone) as heads,
  (coalesce(sum(r.bytes), 0) + coalesce(sum(pg_column_size(d)) filter (where p.gone), 0))::bigint as bytes
from prunable p
cross join lateral (
  select * from dispatcher.delivery d where d.notification_id = p.notification_id offset 0
) d
cross join lateral (
  select count(*) as rows, sum(pg_column_size(r)) as bytes
  from dispatcher.recipient r
  where r.notification_id = p.notification_id and (p.gone or r.generation <= p.generation)
  offset 0
) r
