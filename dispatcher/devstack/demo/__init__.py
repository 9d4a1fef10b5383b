"""The demo: a small story of notifications, played on a real stack, and a check that all of it came out right."""
