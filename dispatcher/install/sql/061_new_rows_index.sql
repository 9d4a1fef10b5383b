-- New rows, by enterprise, so that a claim can hop from one to the next. On the column itself, whatever its type: an
-- expression would be computed at every insert. Rows without an enterprise are its last entries.
create index {concurrently} if not exists {new_rows} on {outbox} (enterprise_id, id)
  where notification_status = 'PENDING' and publish_status = 'PUBLISH' and not deactivated and scheduled_for is null;
