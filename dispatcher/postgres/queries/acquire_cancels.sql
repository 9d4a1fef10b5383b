-- Returns recipients that have to be cancelled at Novu now. They are leased to this caller until the returned time; after
-- it another caller acquires them.
with due as materialized (
  select r.notification_id, r.generation, r.recipient
  from dispatcher.recipient r
  where r.cancel_at <= now()
    and (%(all_enterprises)s or exists (
      select from {outbox} n where n.id = r.notification_id and {tenant} = any(%(enterprises)s)
    ))
  order by r.cancel_at
  limit %(limit)s
  for no key update skip locked
)
update dispatcher.recipient r set cancel_at = clock_timestamp() + %(lease)s
from due
where r.notification_id = due.notification_id and r.generation = due.generation and r.recipient = due.recipient
returning r.notification_id, r.generation, r.recipient, r.transaction_id, r.state, r.cancel_at as lease_until,
  r.cancel_tries as attempts, clock_timestamp() - r.last_called_at as call_age
