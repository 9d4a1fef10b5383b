-- What `run --dry-run` looks at: rows that a claim could take now, the newest first. Reads, locks nothing, and needs
-- nothing of ours.
select n.id from {outbox} n
where (({new}) or ({scheduled})) and (%(all_enterprises)s or {tenant} = any(%(enterprises)s))
order by n.id desc
limit %(limit)s
