-- Takes the test's row out again; the ledger keeps what was sent to whom.
with gone as (
  delete from {outbox} n where n.id = %(id)s and n.notification_status::text in ('SENT', 'PARTIAL', 'FAILED', 'RETRACTED')
  returning n.id
),
noted as (
  insert into dispatcher.action (actor, action, notification_ids, detail)
  select session_user || coalesce(' (' || %(person)s::text || ')', ''), 'send-test cleanup', array[id], null from gone
)
select id from gone
