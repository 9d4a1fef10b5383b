"""HTTP: health, status, metrics and the trigger API."""
