"""Claiming rows."""
