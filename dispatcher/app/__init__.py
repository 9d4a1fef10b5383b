"""What each process starts: `run`, `run --dry-run` and `web`."""
