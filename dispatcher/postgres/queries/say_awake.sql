-- While this is believed, the trigger does not ring. Lost in a crash of the server it costs nothing but a ring.
with unhurried as (select set_config('synchronous_commit', 'off', true))
update dispatcher.node set awake_until = clock_timestamp() + interval '2 s'
from unhurried where id = %(node)s
