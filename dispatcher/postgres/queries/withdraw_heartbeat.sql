-- This process says nothing of itself until its next beat.
delete from dispatcher.node where id = %(node)s
