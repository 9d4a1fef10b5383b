"""Alerts: which log events a person has to know about, and how they reach Sentry."""
