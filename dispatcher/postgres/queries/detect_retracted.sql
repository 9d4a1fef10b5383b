-- Detects retracted rows by their status alone: any program may write it. Ends the generation, so that a row that is published
-- again starts a new one, and marks every recipient of which Novu may know to be cancelled there. A leased row is left
-- until its run releases it, because only then the effect of its calls is known. A row that another transaction has
-- locked is left to the next search.
with found as materialized (
  select n.id
  from {outbox} n
  where n.notification_status = 'RETRACTED' and (n.error_details -> 'retraction') is null
    and {in_allow_list}
  order by n.id
  limit %(limit)s
  for no key update of n skip locked
),
unleased as materialized (
  select d.notification_id, d.generation, d.first_generation, d.claimed_at
  from (select id from found order by id offset 0) f
  cross join lateral (
    select d.notification_id, d.generation, d.first_generation, d.claimed_at
    from dispatcher.delivery d
    where d.notification_id = f.id and d.lease_until is null
    offset 0
    for no key update of d skip locked
  ) d
),
detected as (
  update {outbox} n
  set retracted_at = case when n.retracted_at > coalesce(unleased.claimed_at, '-infinity') then n.retracted_at
      else clock_timestamp() end,
    updated_at = clock_timestamp(),
    error_details = case when jsonb_typeof(n.error_details::jsonb) = 'object' then n.error_details::jsonb
      else '{{}}' end || jsonb_build_object('retraction', jsonb_build_object('noticed_at', clock_timestamp()))
  from found left join unleased on unleased.notification_id = found.id
  where n.id = found.id and n.notification_status = 'RETRACTED'
    and (unleased.notification_id is not null
      or not exists (select from dispatcher.delivery d where d.notification_id = found.id))
  returning n.id, n.created_at
),
ended as (
  update dispatcher.delivery d
  set fence = d.fence + 1, settled_at = coalesce(d.settled_at, clock_timestamp()), next_attempt_at = null,
    retracted_in = d.generation
  from detected
  where d.notification_id = detected.id
),
to_cancel as (
  -- Recipients of every generation, but not those of another row that had the same id before this row was created.
  update dispatcher.recipient r set cancel_at = clock_timestamp(), cancel_tries = 0
  -- The row's created_at tells only if the ledger does not: its owner may change it.
  from detected left join unleased on unleased.notification_id = detected.id
  where r.notification_id = detected.id and r.state in ('accepted', 'sending', 'unknown') and r.cancel_at is null
    and case when unleased.first_generation is not null then r.generation >= unleased.first_generation
      else coalesce(r.generation = unleased.generation, false) or r.first_called_at >= detected.created_at end
  returning r.notification_id
)
select detected.id, count(to_cancel.notification_id)
from detected left join to_cancel on to_cancel.notification_id = detected.id
group by detected.id
