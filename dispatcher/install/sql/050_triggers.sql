-- Replacing takes SHARE ROW EXCLUSIVE: writers wait, readers do not. The installer skips a trigger that is as it should be.
-- Insert: once per statement, COPY included, whatever its rows are.
create or replace trigger dispatcher_insert
  after insert on {outbox}
  for each statement
  execute function dispatcher.ring_v2();

-- Update: only when a row becomes eligible or an eligible row's time moves, so claims and outcomes never get as far as the
-- function.
create or replace trigger dispatcher_update
  after update on {outbox}
  for each row
  when (
    new.notification_status = 'PENDING' and new.publish_status = 'PUBLISH' and not new.deactivated
    and (new.scheduled_for is null or new.scheduled_for < 'infinity')
    and (
      (old.notification_status = 'PENDING' and old.publish_status = 'PUBLISH' and not old.deactivated) is not true
      or old.scheduled_for is distinct from new.scheduled_for
    )
  )
  execute function dispatcher.ring_v2();
