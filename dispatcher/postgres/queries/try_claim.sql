-- What a claim writes to the outbox, for the rows with these ids. Its transaction is rolled back: it only finds out which
-- rows the table refuses.
{set_processing}
where n.id = any(%(ids)s)
