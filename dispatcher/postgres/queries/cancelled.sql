-- What taking recipients back at Novu taught us. Only who still has a recipient to itself writes.
update dispatcher.recipient r
set state = c.state, outcome = c.outcome, error = c.error, cancel_tries = c.tries,
  cancel_at = clock_timestamp() + c.wait  -- null: it is over
from unnest(%(notifications)s::bigint[], %(generations)s::integer[], %(recipients)s::text[], %(untils)s::timestamptz[],
  %(states)s::text[], %(outcomes)s::text[], %(errors)s::text[], %(tries)s::integer[], %(waits)s::interval[])
  c (notification_id, generation, recipient, until, state, outcome, error, tries, wait)
where r.notification_id = c.notification_id and r.generation = c.generation and r.recipient = c.recipient
  and r.cancel_at = c.until
