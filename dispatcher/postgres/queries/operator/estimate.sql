-- Estimates for a table that is too large to count: rows by status from PostgreSQL's statistics, and the number of due
-- rows up to a limit. The columns are those of counts.sql.
select
  coalesce((
    select jsonb_object_agg(label, round(part * greatest(c.reltuples, 0)::numeric)::bigint)
    from pg_class c
    join pg_namespace place on place.oid = c.relnamespace
    join pg_stats s on s.schemaname = place.nspname and s.tablename = c.relname and s.attname = 'notification_status'
    cross join lateral unnest(s.most_common_vals::text::text[], s.most_common_freqs::numeric[]) as v (label, part)
    where c.oid = to_regclass(%(outbox)s)), '{{}}'),
  count(*),
  null::bigint,
  extract(epoch from now() - min(due) filter (where isfinite(due)))::double precision
from (
  (select n.created_at as due from {outbox} n where {new} limit %(limit)s)
  union all
  (select greatest(n.created_at, n.scheduled_for) from {outbox} n where {scheduled} order by n.scheduled_for limit %(limit)s)
) due_rows
