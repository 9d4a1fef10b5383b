-- The versions of rows: an update by anybody changes a row's version.
select n.id, n.xmin::text from {outbox} n where n.id = any(%(ids)s)
