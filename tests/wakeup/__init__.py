"""Listening, and when triggers send NOTIFY."""
