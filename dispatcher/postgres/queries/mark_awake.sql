-- While awake_until lies ahead, the trigger sends no NOTIFY. If a crash of the server loses this write, the only cost is
-- a NOTIFY.
with async_commit as (select set_config('synchronous_commit', 'off', true))
update dispatcher.node set awake_until = clock_timestamp() + interval '2 s'
from async_commit where id = %(node)s
