-- Whether a worker process wrote its heartbeat within the time to live.
select exists (
  select from dispatcher.node where role = 'worker' and seen_at > clock_timestamp() - %(ttl)s::interval
)
