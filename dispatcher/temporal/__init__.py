"""Temporal: the client, and the starter of workflows."""
