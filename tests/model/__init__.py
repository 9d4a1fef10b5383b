"""The reference model of outbox and ledger, in memory and compared with PostgreSQL."""
