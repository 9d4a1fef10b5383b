-- PROCESSING rows that nobody holds (written by hand, or left by another system) get a lease; when it runs out
-- they are rescued like any other.
insert into dispatcher.delivery as d (notification_id, birth, generation, fence, lease_owner, lease_until,
  first_claimed_at, claimed_at)
select n.id,
  substr(encode(sha256(convert_to(i.id::text || '/' || extract(epoch from n.created_at)::text, 'UTF8')), 'hex'), 1, 12),
  1, 1, 'nobody', clock_timestamp() + %(lease)s, now(), now()
from {outbox} n
cross join dispatcher.installation i
left join dispatcher.delivery held on held.notification_id = n.id
where n.notification_status = 'PROCESSING' and held.lease_until is null
  and (%(all_enterprises)s or {tenant} = any(%(enterprises)s))
limit %(limit)s
on conflict (notification_id) do update
  set lease_owner = excluded.lease_owner, lease_until = excluded.lease_until
  where d.lease_until is null
returning notification_id
