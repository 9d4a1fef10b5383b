"""Faults on purpose; docs/faults.md has each with its number."""
