-- From the commit of this on, the trigger rings again.
update dispatcher.node set awake_until = null where id = %(node)s
