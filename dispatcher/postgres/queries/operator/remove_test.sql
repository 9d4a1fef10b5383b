-- Deletes the row of a test that has ended. The ledger keeps what was sent to whom.
with deleted as (
  delete from {outbox} n where n.id = %(id)s and n.notification_status::text in ('SENT', 'PARTIAL', 'FAILED', 'RETRACTED')
  returning n.id
),
recorded as (
  insert into dispatcher.action (actor, action, notification_ids, detail)
  select session_user || coalesce(' (' || %(actor)s::text || ')', ''), 'send-test cleanup', array[id], null from deleted
)
select id from deleted
