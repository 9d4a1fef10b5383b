-- Reads rows as acquire.sql returns them to a run, but leases none. The ledger is not read, so earlier calls are unknown.
select n.id as notification_id, '' as birth, 1 as generation, 0 as fence, a.attempts,
  interval '0' as since_first_claim, {row_columns}, null as ledger,
  null as recipients_missing
from {outbox} n
cross join (select 1 as attempts, false as unread) a
{row_joins}
where n.id = any(%(ids)s)
order by n.id
