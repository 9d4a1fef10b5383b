-- Whether every transaction with an id below has ended.
select pg_snapshot_xmin(pg_current_snapshot()) >= %(transaction)s::xid8
