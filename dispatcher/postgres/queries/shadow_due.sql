-- What `run --dry-run` looks at: rows that a claim could take now, the newest first. Reads, locks nothing, and needs
-- nothing of ours. `offset 0`: found by the claim's indexes where they are, and then sorted, never by walking the table
-- from its newest row.
select id from (
  select n.id from {outbox} n
  where (({new}) or ({scheduled})) and (%(all_enterprises)s or {tenant} = any(%(enterprises)s))
  offset 0
) due
order by id desc
limit %(limit)s
