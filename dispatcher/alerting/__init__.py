"""Alerts: which log events a person has to know of, and how they reach Sentry."""
