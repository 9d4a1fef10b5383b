-- Records recipients whose call the database has lost and whose run Novu has shown. One call was made, at an unknown
-- time. Only the holder of the fence writes.
insert into dispatcher.recipient (notification_id, generation, recipient, ordinal, transaction_id, epoch, state,
  attempts, first_called_at, last_called_at)
select d.notification_id, d.generation, c.recipient, c.ordinal, c.transaction_id, c.epoch, 'unknown',
  1, clock_timestamp(), clock_timestamp()
from unnest(%(notifications)s::bigint[], %(recipients)s::text[], %(ordinals)s::integer[], %(transactions)s::text[],
  %(epochs)s::integer[], %(call_keys)s::text[], %(call_ordinals)s::integer[], %(hashes)s::text[])
  c (notification_id, recipient, ordinal, transaction_id, epoch, call_key, call_ordinal, body_hash)
join unnest(%(ids)s::bigint[], %(fences)s::bigint[]) v (id, fence) on v.id = c.notification_id
join dispatcher.delivery d on d.notification_id = v.id and d.fence = v.fence
on conflict do nothing
