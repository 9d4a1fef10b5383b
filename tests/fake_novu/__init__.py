"""The fake Novu, seen from outside."""
