-- Sends the NOTIFY that the triggers send, so that every listening node claims.
select pg_notify(%(channel)s, '')
