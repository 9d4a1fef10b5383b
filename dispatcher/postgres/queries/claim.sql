-- Claims due rows, at most as many as the node has capacity for: new rows, scheduled rows and failed rows whose retry is
-- due. `FOR NO KEY UPDATE SKIP LOCKED` makes it safe beside any number of other dispatchers. It returns ids only, so a
-- row with an unreadable value harms no other row. It always returns the capacity: fewer rows than that means that
-- nothing else is due.
--
--   due.sql or due_fair.sql                 claim.sql
--   capacity                                complete_batches    failed batches of which every member is due
--   immediate  scheduled  retry_rows   -->  picked              the rows of this claim
--        \         |         /              with_batches        picked, with the name of its batch
--              ranked, next_cursor          set_processing      outbox: PENDING -> PROCESSING
--                                           claimed             ledger: a lease, a higher fence, a workflow id
with recursive {due},
complete_batches as materialized (
  -- The rows of a failed batch that have a call with an unknown outcome are claimed together or not at all: the call
  -- can only be repeated as it was.
  select r.batch
  from ranked r
  where r.batch is not null and r.rank <= (select size from capacity)
  group by r.batch
  having count(*) = (
    select count(*)
    from dispatcher.delivery d
    join {outbox} n on n.id = d.notification_id
    where d.batch = r.batch and d.next_attempt_at is not null
      and n.notification_status::text in {unsuccessful} and {eligible} and {not_refused} and {has_unknown_call}
  )
),
picked as materialized (
  select * from ranked
  where rank <= (select size from capacity) and (batch is null or batch in (select batch from complete_batches))
),
numbered as (
  select *, dense_rank() over (order by tenant) as number,
    row_number() over (partition by tenant, batch is null order by due, id) - 1 as place,
    count(*) over (partition by tenant, batch is null) / %(batch_size)s * %(batch_size)s as in_full_batches
  from picked
),
with_batches as (
  -- The rows with which an enterprise fills batches have batches of their own. The rows that are left over share
  -- batches, in the order of their enterprises. A claim of one row gives it a workflow of its own.
  select *, count(*) over () as total,
    case when place < in_full_batches then number::text || '-' || (place / %(batch_size)s)::text
    else '0-' || ((row_number() over (partition by batch is null, place < in_full_batches order by tenant, due, id) - 1)
      / %(batch_size)s)::text end as name
  from numbered
),
set_processing as (
  {set_processing}
  from picked where n.id = picked.id
  -- The size as it is stored: a large array is not read for it.
  returning n.id, pg_column_size(n.recipients) as recipient_bytes
),
claimed as (
  insert into dispatcher.delivery as d (notification_id, birth, generation, fence, batch, attempts, lease_owner,
    lease_until, next_attempt_at, first_claimed_at, claimed_at, recipient_count, first_generation)
  select n.id, {birth}, 1, 1,
    -- Rows that repeat a call of their last batch keep its name.
    coalesce(n.batch, case when n.total > 1 and %(batch_size)s > 1 then %(claim)s || '-' || n.name end),
    1, %(node)s, clock_timestamp() + %(lease)s,
    case when n.retry then now() end,  -- tells the branch below that the generation is the same; it is never stored
    now(), now(), 0, 1
  from with_batches n cross join dispatcher.installation i
  order by n.due, n.id
  on conflict (notification_id) do update set
    generation = d.generation + case when {same_generation} then 0 else 1 end,
    attempts = case when {same_generation} then d.attempts + 1 else 1 end,
    -- A row that was only released, perhaps after days behind a tripped circuit breaker, has its whole retry horizon left.
    first_claimed_at = case when {same_generation} and d.attempts > 0 then d.first_claimed_at
      else excluded.first_claimed_at end,
    last_error = case when {same_generation} then d.last_error end,
    -- The identities of a generation are made of the birth that its first run had: the owner may change created_at.
    birth = case when {same_generation} and d.recipient_count is distinct from 0 then d.birth else excluded.birth end,
    recipient_count = case when {same_generation} then d.recipient_count else 0 end,
    first_generation = case when {same_row} then d.first_generation else d.generation + 1 end,
    reading_since = case when {same_generation} then d.reading_since end,
    reading_deaths = case when {same_generation} then d.reading_deaths end,
    fence = d.fence + 1,
    batch = excluded.batch,
    lease_owner = excluded.lease_owner,
    lease_until = excluded.lease_until,
    next_attempt_at = null,
    claimed_at = excluded.claimed_at,
    settled_at = null,
    dead_lettered_at = null,
    refused_version = null
  returning notification_id, workflow_id
)
select case when backlog then (select count(*) from picked) else size end::integer as free_capacity,
  next_cursor.next_enterprise, now() as claimed_up_to,
  claimed.notification_id, claimed.workflow_id, s.recipient_bytes, p.tenant
from capacity cross join next_cursor
left join (claimed join picked p on p.id = claimed.notification_id left join set_processing s using (id)) on true
