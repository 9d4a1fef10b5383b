-- Reads the nodes, the triggers, and how many rows wait for which step. Every part is small or has an index.
select json_build_object(
  'now', clock_timestamp(),
  'nodes', (select coalesce(json_agg(x order by x.started_at), '[]') from (
    select id, role, host, version, mode, started_at, seen_at, last_sweep_at, in_flight,
      seen_at > clock_timestamp() - %(node_ttl)s::interval as alive,
      coalesce(awake_until > clock_timestamp(), false) as awake
    from dispatcher.node
  ) x),
  'triggers', (select coalesce(json_object_agg(tgname, tgenabled <> 'D'), '{{}}') from pg_trigger
    where tgrelid = to_regclass(%(outbox)s) and tgname in ('dispatcher_insert', 'dispatcher_update')),
  'leases_run_out', (select count(*) from dispatcher.delivery where lease_until < clock_timestamp()),
  'unheld', (select count(*) from {outbox} n left join dispatcher.delivery d on d.notification_id = n.id
    where n.notification_status = 'PROCESSING' and d.lease_until is null),
  'retractions_to_notice', (select count(*) from {outbox} n
    where n.notification_status = 'RETRACTED' and (n.error_details -> 'retraction') is null),
  'refused', (select count(*) from dispatcher.delivery d join {outbox} n on n.id = d.notification_id
    where {refused}),
  'to_take_back', (select count(*) from dispatcher.recipient where cancel_at is not null),
  'retries_waiting', (select count(*) from dispatcher.delivery where next_attempt_at > clock_timestamp()),
  'retries_due', (select count(*) from dispatcher.delivery where next_attempt_at <= clock_timestamp()),
  'next_due', least(
    (select min(n.scheduled_for) from {outbox} n
     where {pending}
       and n.scheduled_for > now() and n.scheduled_for < 'infinity'),
    (select min(next_attempt_at) from dispatcher.delivery where next_attempt_at > now()))
)
