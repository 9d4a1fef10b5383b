-- Changes one batch of rows as an application would, and records it in dispatcher.action, in one statement. A row is
-- changed only if its status is as the preview showed it and it was not acquired since: each time, its fence grows. Rows
-- that another transaction has locked are skipped, so this statement never waits and cannot deadlock.
with found as materialized (
  select n.id, v.was
  from (
    select * from unnest(%(ids)s::bigint[], %(statuses)s::text[], %(fences)s::bigint[]) v (id, was, fence)
    order by id offset 0
  ) v
  cross join lateral (
    select n.id from {outbox} n
    where n.id = v.id and n.notification_status::text = v.was
      and (v.was <> 'RETRACTED' or (n.error_details -> 'retraction') is not null or exists (
        select from dispatcher.delivery d where d.notification_id = n.id and {refused}
      ))
      and v.fence is not distinct from (select d.fence from dispatcher.delivery d where d.notification_id = v.id)
    offset 0
    for no key update skip locked
  ) n
),
changed as (
  update {outbox} n set {changes}, updated_at = clock_timestamp()
  from found where n.id = found.id
  returning n.id, found.was
),
recorded as (
  insert into dispatcher.action (actor, action, notification_ids, detail)
  select session_user || coalesce(' (' || %(actor)s::text || ')', ''), %(action)s,
    (select array_agg(id order by id) from changed),
    jsonb_build_object('was', jsonb_object_agg(was, ids), 'reason', %(reason)s::text)::text
  from (select was, jsonb_agg(id order by id) as ids from changed group by was) by_status
  having count(*) > 0
)
select id from changed order by id
