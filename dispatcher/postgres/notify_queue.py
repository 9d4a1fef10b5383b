"""PostgreSQL's NOTIFY queue: how full it is, and which session keeps it from being emptied."""

QUEUE_USAGE_LIMIT = 0.1
"""The share of the queue, 0 to 1, from which a warning is given. A full queue makes each commit with a NOTIFY fail."""
QUEUE_USAGE = """
    select pg_notification_queue_usage(),
      (select pid from pg_stat_activity where state like 'idle in transaction%' order by xact_start limit 1)
"""
"""The fraction of the queue in use, 0 to 1, and the process id of the session that most likely holds it: one that
listens and does not end its transaction. The query also frees entries that every session has read."""
