-- Returns the name of the installation's outbox if `relation` is another table. The same outbox is a table with the
-- recorded name or the recorded oid: it may have been renamed, or restored from a dump. A recorded table that no longer
-- exists refuses nobody. A ledger of an earlier version has no such columns, so they are read from JSON.
with recorded as (
  select to_jsonb(i) ->> 'outbox' as name, (to_jsonb(i) ->> 'outbox_oid')::oid as table_oid
  from dispatcher.installation i
),
recorded_tables as (
  select c.oid
  from recorded r
  cross join pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  where c.relkind = 'r' and (
    format('%I.%I', n.nspname, c.relname) = r.name
    -- After a restore another table can have the recorded oid.
    or (c.oid = r.table_oid
      and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'notification_status'))
  )
)
select r.name
from recorded r
where to_regclass({relation}) is not null  -- a missing table has a sentence of its own
  and exists (select from recorded_tables)
  and not exists (select from recorded_tables where oid = to_regclass({relation}))
