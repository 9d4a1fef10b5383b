-- The function of both triggers: it sends NOTIFY only while no node is awake. NOTIFY carries no data, and the function
-- never raises an error. It looks at no row: a transition table costs producers more than a NOTIFY too many.
-- SECURITY DEFINER, because it reads our node table, on which producers have no rights. Nobody else can put anything on
-- its search_path, and nothing that a caller writes reaches a statement.
-- Volatile, so that it sees what is committed at this moment. Under a stricter isolation level it would see the past, so
-- there it always sends NOTIFY.
-- ring_v1 stays, because `db verify` of the previous version calls it.
create or replace function dispatcher.ring_v2() returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  begin
    if pg_catalog.current_setting('transaction_isolation') = 'read committed'
      and exists (select from dispatcher.node where awake_until > pg_catalog.clock_timestamp()) then
      return null;
    end if;
  exception when others then
    null;  -- something is not as installed: a NOTIFY too many costs nothing, one too few costs a row its latency
  end;
  -- Set by our own sessions, and by producers who load in bulk or use two-phase commit: the sweep finds their rows.
  if pg_catalog.lower(pg_catalog.current_setting('dispatcher.quiet', true)) in ('on', 'true', 'yes', '1') then
    return null;
  end if;
  -- Constant, so that a transaction yields one message however many rows and statements it has.
  perform pg_catalog.pg_notify('dispatcher', '');
  return null;
end
$$;
