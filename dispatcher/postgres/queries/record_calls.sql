-- Written before the request leaves: the recipients, their call and its key. Returns the recipients that may still be
-- called: the run holds the row's fence, and the row is eligible at this moment.
with may_send as materialized (
  select d.notification_id, d.generation
  from {leased_rows}
  cross join lateral (
    select d.notification_id, d.generation
    from dispatcher.delivery d
    where d.notification_id = v.id and d.fence = v.fence
      and exists (select from {outbox} n where n.id = v.id and n.notification_status = 'PROCESSING' and {eligible})
    offset 0
    for no key update of d
  ) d
)
insert into dispatcher.recipient as r (notification_id, generation, recipient, ordinal, transaction_id, epoch, call_key,
  call_ordinal, body_hash, state, attempts, first_called_at, last_called_at)
select h.notification_id, h.generation, c.recipient, c.ordinal, c.transaction_id, c.epoch, c.call_key,
  c.call_ordinal, c.body_hash, 'sending', 1, clock_timestamp(), clock_timestamp()
from unnest(%(notifications)s::bigint[], %(recipients)s::text[], %(ordinals)s::integer[], %(transactions)s::text[],
  %(epochs)s::integer[], %(call_keys)s::text[], %(call_ordinals)s::integer[], %(hashes)s::text[])
  c (notification_id, recipient, ordinal, transaction_id, epoch, call_key, call_ordinal, body_hash)
join may_send h using (notification_id)
on conflict (notification_id, generation, recipient) do update set
  state = 'sending', attempts = r.attempts + 1, epoch = excluded.epoch, call_key = excluded.call_key,
  call_ordinal = excluded.call_ordinal, body_hash = excluded.body_hash, last_called_at = excluded.last_called_at
  -- The owner removed a withdrawn recipient, and has added it again.
  where r.state not in ('accepted', 'refused', 'cancelled') or r.state = 'cancelled' and r.outcome = 'withdrawn'
returning r.notification_id, r.recipient
