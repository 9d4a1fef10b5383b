"""PostgreSQL: the connection pool, and all statements on the outbox and the ledger."""
