-- A run acquires its rows: each gets a higher fence, which rejects later writes of an earlier run, and a fresh lease.
-- Returns the columns that a call to Novu needs. JSON is returned as text, so that reading a row cannot fail, and not
-- returned at all when it is too large to be sent, or after the run's `last_attempt`; nor are recipients, if the row has
-- more than `max_recipients`. Large rows are returned in parts: the rows with the lowest ids, up to `max_read_bytes`, and
-- at least one row.
--
-- `reading_since` says that a try reads the row: it has neither recorded a call since nor ended. If it is older than
-- this try, the process of that try may have died of it. Such a suspect is only named here, and then read `alone` under
-- the same fence. After `max_deaths` deaths it is not read any more.
with to_acquire as materialized (
  select d.notification_id, d.generation, d.recipient_count, d.attempts, d.reading_since, d.reading_deaths
  from (select * from unnest(%(ids)s::bigint[]) v (id) order by id offset 0) v  -- as in LEASED_ROWS
  cross join lateral (
    select d.notification_id, d.generation, d.recipient_count, d.attempts, d.reading_since,
      coalesce(d.reading_deaths, 0) as reading_deaths
    from dispatcher.delivery d
    where d.notification_id = v.id and d.workflow_id = %(workflow_id)s and d.settled_at is null
      and (%(alone)s::bigint is null or d.fence = %(alone)s::bigint)
      and exists (select from {outbox} n where n.id = v.id and n.notification_status = 'PROCESSING')
    offset 0
    for no key update of d
  ) d
),
acquired as (
  update dispatcher.delivery d
  set fence = d.fence + case when %(alone)s::bigint is null then 1 else 0 end,
    lease_owner = %(node)s, lease_until = clock_timestamp() + %(lease)s,
    reading_since = case when s.suspect or s.too_many_deaths or not s.reads then d.reading_since else now() end,
    reading_deaths = case when %(alone)s::bigint is null then d.reading_deaths else t.reading_deaths + 1 end,
    -- While recipients are missing, the number stays: each further run has to know it.
    recipient_count = case when t.recipient_count > l.count then t.recipient_count end
  from to_acquire t
  cross join lateral (
    select count(*), max(r.last_called_at) as last_called_at, json_agg(json_build_array(r.recipient, r.state, r.epoch,
        json_build_array(r.call_key, r.call_ordinal, r.body_hash),
        json_build_array(extract(epoch from clock_timestamp() - r.last_called_at),
          extract(epoch from clock_timestamp() - r.first_called_at)),
        r.outcome, r.error, r.attempts, r.transaction_id) order by r.ordinal, r.recipient) as ledger
    from dispatcher.recipient r
    where r.notification_id = t.notification_id and r.generation = t.generation
  ) l
  cross join lateral (
    select t.attempts <= %(last_attempt)s as reads, t.reading_deaths >= %(max_deaths)s as too_many_deaths,
      t.reading_deaths > 0 or t.reading_since < coalesce(%(try_began)s::timestamptz, now())
        and coalesce(l.last_called_at < t.reading_since, true) as accused
  ) m
  cross join lateral (
    select m.reads, m.reads and m.too_many_deaths as too_many_deaths,
      m.reads and %(alone)s::bigint is null and m.accused and not m.too_many_deaths as suspect
  ) s
  where d.notification_id = t.notification_id
  returning d.notification_id, d.birth, d.generation, d.fence, d.attempts,
    clock_timestamp() - d.first_claimed_at as since_first_claim, t.reading_deaths,
    coalesce(s.suspect, false) as suspect, coalesce(s.suspect, false) or s.too_many_deaths as unread,
    case when s.suspect then null else l.ledger end as ledger,
    t.recipient_count - l.count as recipients_missing
),
unproved as (
  -- More recipients than the head counted: it is younger than their calls. So nothing proves that their outcomes are of
  -- this generation, and Novu is asked.
  update dispatcher.recipient r set state = 'unknown'
  from acquired a
  where a.recipients_missing < 0 and r.notification_id = a.notification_id and r.generation = a.generation
    and r.state in ('accepted', 'refused')
)
select * from (
  select a.notification_id, a.birth, a.generation, a.fence, a.attempts, a.since_first_claim, {row_columns},
    a.ledger, a.recipients_missing, a.reading_deaths, a.suspect, now() as read_at,
    -- NULL unless the database lost commits after the row was due: a call for it may be missing in the ledger.
    (select extract(epoch from clock_timestamp() - i.restored_at)::double precision
     from dispatcher.installation i
     where i.restored_at >= coalesce(greatest(n.created_at, n.scheduled_for), '-infinity')) as since_restore,
    -- A recipient is read as 36 characters.
    sum(x.payload_bytes + x.overrides_bytes + 36::bigint * x.recipient_count)
      over (order by a.notification_id rows between unbounded preceding and 1 preceding)
      as bytes_before
  from acquired a
  -- As with a claim: the write that has to be durable is the one before the call, and it flushes this one.
  cross join (select set_config('synchronous_commit', 'off', true) offset 0) async_commit
  join {outbox} n on n.id = a.notification_id
  {row_joins}
) loaded
where coalesce(bytes_before, 0) < %(max_read_bytes)s
order by notification_id
