-- This process is alive. Rows of processes that were killed go after a day. Of all that live and sweep one is the first,
-- which speaks for them where one voice is enough.
with gone as (
  delete from dispatcher.node where seen_at < clock_timestamp() - interval '1 day' and id <> %(node)s
)
insert into dispatcher.node (id, role, host, version, mode, in_flight, last_sweep_at)
values (%(node)s, %(role)s, %(host)s, %(version)s, %(mode)s,
  (select count(*) from dispatcher.delivery where lease_owner = %(node)s and lease_until is not null),
  case when %(role)s <> 'worker' then clock_timestamp() end)
on conflict (id) do update
  set seen_at = clock_timestamp(), mode = excluded.mode, in_flight = excluded.in_flight,
    last_sweep_at = excluded.last_sweep_at
returning not exists (
  select from dispatcher.node as other
  where other.id < %(node)s and other.role <> 'worker' and other.seen_at > clock_timestamp() - interval '1 minute'
)
