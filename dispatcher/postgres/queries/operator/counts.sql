-- Reads the outbox once: rows by status, the number of due rows and of scheduled rows, and for how many seconds the
-- oldest due row has waited.
select coalesce(jsonb_object_agg(status, rows), '{{}}'), coalesce(sum(due), 0)::bigint, coalesce(sum(scheduled), 0)::bigint,
  max(waiting)
from (
  select n.notification_status::text as status, count(*) as rows,
    count(*) filter (where {new} or {scheduled}) as due,
    count(*) filter (where {pending} and n.scheduled_for > now()) as scheduled,
    extract(epoch from now() - min(greatest(n.created_at, n.scheduled_for))
      filter (where ({new} or {scheduled}) and isfinite(n.created_at)))::double precision as waiting
  from {outbox} n
  group by 1
) by_status
