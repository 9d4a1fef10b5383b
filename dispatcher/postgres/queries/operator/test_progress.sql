-- Returns how far a test's row is, in seconds since it was written.
select row_to_json(x) from (
  select n.notification_status::text as status, n.error_details ->> 'error' as error, d.lease_owner, d.workflow_id,
    extract(epoch from d.claimed_at - %(since)s)::double precision as claimed,
    extract(epoch from (select min(r.first_called_at) from dispatcher.recipient r
      where r.notification_id = n.id and r.generation = d.generation) - %(since)s)::double precision as called,
    extract(epoch from d.settled_at - %(since)s)::double precision as settled,
    d.next_attempt_at,
    (select count(*) from dispatcher.node where seen_at > clock_timestamp() - %(node_ttl)s::interval) as nodes_alive
  from {outbox} n
  left join dispatcher.delivery d on d.notification_id = n.id
  where n.id = %(id)s
) x
