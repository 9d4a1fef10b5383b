"""Delivers claimed rows: the workflow, its activities, the sender of calls to Novu, and the canceller for retracted
rows."""
