-- PROCESSING rows without a lease (written by hand, or left by another system) get a lease. When it expires they are
-- rescued like any other row. PROCESSING over an outcome is a foreign status: it is put back.
insert into dispatcher.delivery as d (notification_id, birth, generation, fence, lease_owner, lease_until,
  first_claimed_at, claimed_at, recipient_count, first_generation)
select n.id,
  {birth},
  1, 1, 'nobody', clock_timestamp() + %(lease)s, now(), now(), 0, 1
from {outbox} n
cross join dispatcher.installation i
left join dispatcher.delivery leased on leased.notification_id = n.id
where n.notification_status = 'PROCESSING' and leased.lease_until is null and leased.settled_at is null
  and {in_allow_list}
limit %(limit)s
on conflict (notification_id) do update
  set lease_owner = excluded.lease_owner, lease_until = excluded.lease_until
  where d.lease_until is null and d.settled_at is null
returning notification_id
