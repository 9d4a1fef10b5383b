"""PostgreSQL's queue of NOTIFY: how full it is, and which session prevents that it is emptied."""

QUEUE_USAGE_LIMIT = 0.1
"""The share of the queue, 0 to 1, from which a warning is given. A full queue makes each commit with a NOTIFY fail."""
QUEUE_USAGE = """
    select pg_notification_queue_usage(),
      (select pid from pg_stat_activity where state like 'idle in transaction%' order by xact_start limit 1)
"""
"""The used share of the queue, 0 to 1, and the process id of the idle session with the oldest open transaction: if that
session listens, it keeps the queue full. The query also makes PostgreSQL free the entries that all have read."""
