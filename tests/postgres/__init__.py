"""Outbox and ledger in PostgreSQL."""
