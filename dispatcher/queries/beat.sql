-- This process is alive.
insert into dispatcher.node (id, role, host, version, mode, last_sweep_at)
values (%(node)s, %(role)s, %(host)s, %(version)s, %(mode)s, clock_timestamp())
on conflict (id) do update
  set seen_at = clock_timestamp(), mode = excluded.mode, last_sweep_at = excluded.last_sweep_at
