-- One partial index per sweep query: rows leave them when they are done, so they stay as small as the backlog. Each statement
-- runs outside a transaction and blocks nobody; an interrupted build leaves an invalid index, which the installer rebuilds.
create index {concurrently} if not exists {scheduled} on {outbox} (scheduled_for, id)
  where notification_status = 'PENDING' and publish_status = 'PUBLISH' and not deactivated and scheduled_for is not null;

create index {concurrently} if not exists {processing} on {outbox} (id)
  where notification_status = 'PROCESSING';

-- Retracted rows that nobody has noticed yet: whoever notices one notes it in the row's error_details.
create index {concurrently} if not exists {retracted} on {outbox} (id)
  where notification_status = 'RETRACTED' and (error_details -> 'retraction') is null;
