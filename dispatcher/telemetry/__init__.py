"""Logs, redaction of secrets, metrics, and the health of this process."""
