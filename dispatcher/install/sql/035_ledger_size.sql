-- pruned_in: the generation up to which `dispatcher.recipient` has lost its rows, because they were older than the
-- retention. The head stays as long as its row, so that a resend is a new generation. NULL: nothing is pruned.
alter table dispatcher.delivery add column if not exists pruned_in integer;

-- Roles that already work on the ledger may prune it, so that an upgrade needs no further grant.
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
    execute format('grant delete on dispatcher.delivery, dispatcher.recipient to %I', worker);
  end loop;
end
$$;
