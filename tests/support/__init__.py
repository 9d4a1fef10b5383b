"""Helpers of several folders: databases, a whole stack, waiting, running commands."""
