-- Writes the results of cancel calls. Only the caller whose lease on a recipient still holds may write.
update dispatcher.recipient r
set state = c.state, outcome = c.outcome, error = c.error, cancel_tries = c.attempts,
  cancel_at = clock_timestamp() + c.retry_in  -- null: no further attempt
from unnest(%(notifications)s::bigint[], %(generations)s::integer[], %(recipients)s::text[], %(leases)s::timestamptz[],
  %(states)s::text[], %(outcomes)s::text[], %(errors)s::text[], %(attempts)s::integer[], %(retry_ins)s::interval[])
  c (notification_id, generation, recipient, lease_until, state, outcome, error, attempts, retry_in)
where r.notification_id = c.notification_id and r.generation = c.generation and r.recipient = c.recipient
  and r.cancel_at = c.lease_until
