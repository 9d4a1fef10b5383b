-- Takes due rows: new, scheduled and failed-and-due-again ones, at most as many as the node has room for.
-- The rows' own locks make it safe beside any number of other dispatchers. Returns ids only: no value of a row is
-- decoded, so a row that cannot be read hurts nobody here. Always says how much room there was: fewer rows than that
-- means that nothing else is due.
with recursive {due},
whole as materialized (
  -- A batch that failed is taken whole or not at all: a call of it with an unknown outcome can only be repeated as it was.
  select r.batch
  from ranked r
  where r.batch is not null and r.rank <= (select size from room)
  group by r.batch
  having count(*) = (
    select count(*)
    from dispatcher.delivery d
    join {outbox} n on n.id = d.notification_id
    where d.batch = r.batch and d.next_attempt_at is not null
      and n.notification_status::text in ('FAILED', 'PARTIAL') and {gates}
  )
),
picked as materialized (
  select * from ranked
  where rank <= (select size from room) and (batch is null or batch in (select batch from whole))
),
planned as (
  -- A batch holds one enterprise; few rows in all go as one workflow each.
  select *, count(*) over () as total, dense_rank() over (order by tenant) as number,
    (row_number() over (partition by tenant order by due, id) - 1) / %(batch_size)s as part
  from picked
),
marked as (
  -- The note of an earlier retraction goes: the next one has to be noticed as well.
  update {outbox} n set notification_status = 'PROCESSING', updated_at = now(),
    error_details = case when n.error_details -> 'retraction' is null then n.error_details::jsonb
      else n.error_details::jsonb - 'retraction' end
  from picked where n.id = picked.id
),
claimed as (
  insert into dispatcher.delivery as d (notification_id, birth, generation, fence, batch, attempts, lease_owner,
    lease_until, next_attempt_at, first_claimed_at, claimed_at)
  select p.id,
    substr(encode(sha256(convert_to(i.id::text || '/' || extract(epoch from p.created_at)::text, 'UTF8')), 'hex'), 1, 12),
    1, 1,
    -- A batch that failed stays together: a call with an unknown outcome is repeated whole or not at all.
    coalesce(p.batch, case when p.total > %(solo_max)s then %(claim)s || '-' || p.number::text || '-' || p.part::text end),
    1, %(node)s, clock_timestamp() + %(lease)s,
    case when p.retry then now() end,  -- tells the branch below that this is the same generation; never stored
    now(), now()
  from planned p cross join dispatcher.installation i
  order by p.due, p.id
  on conflict (notification_id) do update set
    generation = d.generation + case when {same_generation} then 0 else 1 end,
    attempts = case when {same_generation} then d.attempts + 1 else 1 end,
    -- A row that was only handed back, behind a shut gate for days perhaps, has its whole time still before it.
    first_claimed_at = case when {same_generation} and d.attempts > 0 then d.first_claimed_at
      else excluded.first_claimed_at end,
    last_error = case when {same_generation} then d.last_error end,
    birth = excluded.birth,
    fence = d.fence + 1,
    batch = excluded.batch,
    lease_owner = excluded.lease_owner,
    lease_until = excluded.lease_until,
    next_attempt_at = null,
    claimed_at = excluded.claimed_at,
    settled_at = null,
    dead_lettered_at = null
  returning notification_id, workflow_id, batch is null as solo
)
select case when more then (select count(*) from picked) else size end::integer as room, more.turn, now() as looked,
  claimed.notification_id, claimed.workflow_id, claimed.solo, p.tenant
from room cross join more
left join (claimed join picked p on p.id = claimed.notification_id) on true
