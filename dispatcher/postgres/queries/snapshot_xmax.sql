-- Returns a transaction id. Every transaction that has begun to write has a lower id.
select pg_snapshot_xmax(pg_current_snapshot())::text
