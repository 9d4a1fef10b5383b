-- Writes that this process is alive. Deletes nodes that have not written for a day. Returns whether this node has the
-- lowest id of all live nodes that sweep: that one reports for all of them.
with removed_nodes as (
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
