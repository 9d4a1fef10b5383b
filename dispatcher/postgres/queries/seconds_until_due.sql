-- Seconds until the next row becomes due without a new commit, or null. Counts from the time of the last claim: neither
-- that claim nor this statement would see a row that became due between the two.
select extract(epoch from least(
    (select min(n.scheduled_for) from {outbox} n
     where {pending}
       and n.scheduled_for > coalesce(%(claimed_up_to)s, now()) and n.scheduled_for < 'infinity'
       and {in_allow_list}),
    (select min(next_attempt_at) from dispatcher.delivery where next_attempt_at > coalesce(%(claimed_up_to)s, now()))
  ) - clock_timestamp())::double precision
