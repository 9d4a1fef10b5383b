-- Part of prune.sql and count_prunable.sql: the next heads of the ledger, and those of them that have something to
-- prune. Of a row that exists: a settled generation that is SENT or RETRACTED and waits for nothing. Of a row that its
-- owner has deleted: everything.
walked as materialized (
  select notification_id, fence from dispatcher.delivery
  where notification_id > %(after)s
    -- Of all nodes that sweep, the one with the lowest id prunes. An operator has no id.
    and not exists (
      select from dispatcher.node other
      where other.id < %(node)s and other.role <> 'worker' and other.seen_at > clock_timestamp() - interval '1 minute'
    )
  order by notification_id
  limit %(heads)s
),
prunable as materialized (
  select d.notification_id, d.generation, n.id is null as gone
  from (select * from walked order by notification_id offset 0) w
  left join lateral (
    select n.id, n.notification_status::text as status from {outbox} n where n.id = w.notification_id
    offset 0
  ) n on true
  cross join lateral (
    select d.notification_id, d.generation
    from dispatcher.delivery d
    -- Whoever claims, settles or retracts the row changes the fence or the outcome: then it is left.
    where d.notification_id = w.notification_id and d.fence = w.fence and d.lease_until is null
      and case when n.id is null then greatest(d.claimed_at, d.settled_at, d.dead_lettered_at) < now() - %(age)s
        else d.settled_at < now() - %(age)s and d.next_attempt_at is null and d.dead_lettered_at is null
          and d.refused_version is null
          and (d.last_error is null and n.status = 'SENT' or d.retracted_in = d.generation and n.status = 'RETRACTED')
          and exists (select from dispatcher.recipient r where r.notification_id = d.notification_id)
        end
      and not exists (
        select from dispatcher.recipient r where r.notification_id = d.notification_id and r.cancel_at is not null
      )
    offset 0
    {lock}
  ) d
)
