"""Alerts, sent to a fake Sentry that is a server."""
