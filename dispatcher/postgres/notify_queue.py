"""PostgreSQL's queue of NOTIFYs: how full it is, and which session keeps it from being emptied."""

QUEUE_USAGE_LIMIT = 0.1
QUEUE_USAGE = """
    select pg_notification_queue_usage(),
      (select pid from pg_stat_activity where state like 'idle in transaction%' order by xact_start limit 1)
"""
"""How full PostgreSQL's queue of notifications is (asking also frees what nobody needs any more), and the session that
most likely keeps it: one that listens and does not end its transaction."""
