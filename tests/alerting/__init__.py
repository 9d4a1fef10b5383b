"""Alerts, told to a Sentry that is a server."""
