-- Records rows to which a rule of the table refuses our write: nobody works on them, and they wait for a person or for an
-- update by their owner. The outbox is not written. A fence that is not null must still be held.
insert into dispatcher.delivery as d (notification_id, birth, generation, fence, first_claimed_at, claimed_at,
  recipient_count, first_generation, last_error, dead_lettered_at, refused_version)
select n.id, {birth}, 1, 1, now(), now(), 0, 1, v.words, clock_timestamp(), v.version
from unnest(%(ids)s::bigint[], %(versions)s::text[], %(words)s::text[], %(fences)s::bigint[])
  v (id, version, words, fence)
join {outbox} n on n.id = v.id
cross join dispatcher.installation i
where v.fence is null or exists (
  select from dispatcher.delivery d where d.notification_id = v.id and d.fence = v.fence
)
on conflict (notification_id) do update set fence = d.fence + 1, lease_owner = null, lease_until = null,
  last_error = excluded.last_error, dead_lettered_at = excluded.dead_lettered_at,
  refused_version = excluded.refused_version
returning notification_id
