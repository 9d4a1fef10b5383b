-- The names of the applied files, for a process whose role may not read `dispatcher.migration`: one that does not know
-- all of them is older than the ledger, as after a rollback. SECURITY DEFINER because of that; it takes no argument.
create or replace function dispatcher.applied_files_v1() returns setof text
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select name from dispatcher.migration order by name
$$;
