-- Rows somebody works on (few), rows that wait for their automatic retry (few), rows that wait for a person (few),
-- recipients to be taken back (few).
create index if not exists delivery_lease on dispatcher.delivery (lease_owner, lease_until)
  where lease_until is not null;
create index if not exists delivery_retry on dispatcher.delivery (next_attempt_at)
  where next_attempt_at is not null;
create index if not exists delivery_retry_batch on dispatcher.delivery (batch)
  where next_attempt_at is not null and batch is not null;
create index if not exists delivery_dead_letter on dispatcher.delivery (notification_id)
  where dead_lettered_at is not null;
create index if not exists recipient_cancel on dispatcher.recipient (cancel_at)
  where cancel_at is not null;
