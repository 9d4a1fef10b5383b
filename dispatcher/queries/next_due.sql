-- Seconds until the next row becomes due by itself, or null.
select extract(epoch from least(
    (select min(n.scheduled_for) from {outbox} n
     where n.notification_status = 'PENDING' and n.publish_status = 'PUBLISH' and not n.deactivated
       and n.scheduled_for > now() and n.scheduled_for < 'infinity'
       and (%(all_enterprises)s or n.enterprise_id = any(%(enterprises)s))),
    (select min(next_attempt_at) from dispatcher.delivery where next_attempt_at > now())
  ) - clock_timestamp())::double precision
