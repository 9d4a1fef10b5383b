-- The rows that a claim could take now, newest first, for `run --dry-run`. Only reads, locks nothing, and needs none of
-- our tables. `offset 0` makes the planner use the claim's indexes where they exist and sort afterwards, instead of
-- reading the whole table from its newest row.
select id from (
  select n.id from {outbox} n
  where (({new}) or ({scheduled})) and {in_allow_list}
  offset 0
) due
order by id desc
limit %(limit)s
