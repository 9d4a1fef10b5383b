"""Composes each process: `run`, `run --dry-run`, `web`, and one sweep by hand."""
