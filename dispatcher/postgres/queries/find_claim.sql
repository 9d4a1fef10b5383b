-- The rows that claim.sql picks, with their versions, locked until the end of the transaction.
with recursive {due}
select r.id, {row_version}
from ranked r join {outbox} n on n.id = r.id
where r.rank <= (select size from capacity)
order by r.id
