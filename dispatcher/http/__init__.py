"""The health port of `run` and `web`: health, status and metrics over HTTP."""
