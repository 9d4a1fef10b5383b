-- The versions of rows: an update by anybody changes a row's version.
select n.id, {row_version} from {outbox} n where n.id = any(%(ids)s)
