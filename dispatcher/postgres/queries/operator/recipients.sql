-- Returns a row's recipients, the newest generation first, and the number of all of them.
select row_to_json(x), count(*) over () from (
  select r.generation, r.recipient, r.state, r.attempts, r.first_called_at, r.last_called_at, r.outcome,
    left(r.error, 2000) as error, r.transaction_id, r.cancel_at
  from dispatcher.recipient r
  where r.notification_id = %(id)s
  order by r.generation desc, r.ordinal
) x
limit %(limit)s
