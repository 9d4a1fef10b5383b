"""Temporal: the client, and starting workflows."""
