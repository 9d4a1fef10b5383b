-- When the database was last seen to have lost its newest commits (failover, restore), and the timeline of its WAL.
alter table dispatcher.installation
  add column if not exists restored_at timestamptz,
  add column if not exists timeline text;

-- Roles that already work on the ledger may write both, so that an upgrade needs no further grant.
do $$
declare
  worker name;
begin
  for worker in
    select distinct r.rolname
    from pg_namespace n join pg_class c on c.relnamespace = n.oid
    cross join lateral aclexplode(c.relacl) a join pg_roles r on r.oid = a.grantee
    where n.nspname = 'dispatcher' and c.relname = 'delivery' and a.privilege_type = 'UPDATE'
      and a.grantee <> c.relowner
  loop
    execute format('grant update (restored_at, timeline) on dispatcher.installation to %I', worker);
  end loop;
end
$$;
