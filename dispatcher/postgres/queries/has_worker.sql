-- Whether a process lives that sends what others claim.
select exists (
  select from dispatcher.node where role = 'worker' and seen_at > clock_timestamp() - %(believed)s::interval
)
