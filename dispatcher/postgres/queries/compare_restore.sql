-- Compares the database with the memory of this process (`id`, `fence`) and of the installation. One row: whether the
-- server is a standby, the timeline that is stored, the present one (NULL: not known), and whether the row of our last
-- call has lost its fence. A head that is missing proves nothing if the call is so old that it can have been pruned.
select pg_catalog.pg_is_in_recovery(), i.timeline, {timeline},
  %(id)s::bigint is not null and coalesce((
    select d.fence < %(fence)s from dispatcher.delivery d where d.notification_id = %(id)s), not %(prunable)s)
from dispatcher.installation i
