-- After this commit the trigger sends NOTIFY again.
update dispatcher.node set awake_until = null where id = %(node)s
