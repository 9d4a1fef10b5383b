-- What the triggers do.
select pg_notify(%(channel)s, '')
