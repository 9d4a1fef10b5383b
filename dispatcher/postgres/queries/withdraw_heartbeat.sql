-- Deletes this process's heartbeat. Its next heartbeat writes it again.
delete from dispatcher.node where id = %(node)s
