-- The doorbell behind both triggers: rings only when no node is awake. It carries no data and never raises: producers
-- must not notice it. SECURITY DEFINER because it reads our node table, on which producers have no rights; the
-- search_path is one on which nobody else can put anything, and nothing a caller writes reaches a statement.
-- Volatile, so that each look sees what is committed at that moment; under a stricter isolation level it would see the
-- past, so there it always rings.
create or replace function dispatcher.ring_v1() returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  begin
    if pg_catalog.current_setting('transaction_isolation') = 'read committed'
      and exists (select from dispatcher.node where awake_until > pg_catalog.clock_timestamp()) then
      return null;
    end if;
    if tg_level = 'STATEMENT' and not exists (
      select from inserted
      where notification_status = 'PENDING' and publish_status = 'PUBLISH' and not deactivated
        and (scheduled_for is null or scheduled_for < 'infinity')
    ) then
      return null;
    end if;
  exception when others then
    null;  -- something is not as installed: a ring too many costs nothing, a lost insert would
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
