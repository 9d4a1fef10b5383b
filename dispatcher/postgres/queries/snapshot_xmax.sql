-- Every transaction that has begun to write has an id below this one.
select pg_snapshot_xmax(pg_current_snapshot())::text
