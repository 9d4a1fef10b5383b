-- The doorbell behind both triggers. It carries no data and never raises: producers must not notice it. It runs with the
-- producer's own rights, which suffice (NOTIFY needs none), and with a search_path on which nobody else can put anything.
create or replace function dispatcher.ring_v1() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Set by our own sessions, and by producers who load in bulk or use two-phase commit: the sweep finds their rows.
  if pg_catalog.lower(pg_catalog.current_setting('dispatcher.quiet', true)) in ('on', 'true', 'yes', '1') then
    return null;
  end if;
  if tg_level = 'STATEMENT' then
    begin
      if not exists (
        select from inserted
        where notification_status = 'PENDING' and publish_status = 'PUBLISH' and not deactivated
          and (scheduled_for is null or scheduled_for < 'infinity')
      ) then
        return null;
      end if;
    exception when others then
      null;  -- a label or column is not as installed: a ring too many costs nothing, a lost insert would
    end;
  end if;
  -- Constant, so that a transaction yields one message however many rows and statements it has.
  perform pg_catalog.pg_notify('dispatcher', '');
  return null;
end
$$;
