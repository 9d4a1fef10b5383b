-- Seconds until the next row becomes due by itself, or null. Looks from the last claim on: what became due between that one
-- and now would be seen by neither.
select extract(epoch from least(
    (select min(n.scheduled_for) from {outbox} n
     where n.notification_status = 'PENDING' and n.publish_status = 'PUBLISH' and not n.deactivated
       and n.scheduled_for > coalesce(%(looked)s, now()) and n.scheduled_for < 'infinity'
       and (%(all_enterprises)s or {tenant} = any(%(enterprises)s))),
    (select min(next_attempt_at) from dispatcher.delivery where next_attempt_at > coalesce(%(looked)s, now()))
  ) - clock_timestamp())::double precision
