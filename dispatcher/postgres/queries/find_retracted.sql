-- The rows that detect_retracted.sql finds, by id.
select n.id
from {outbox} n
where n.notification_status = 'RETRACTED' and (n.error_details -> 'retraction') is null
  and {in_allow_list} and {not_refused}
order by n.id
limit %(limit)s
