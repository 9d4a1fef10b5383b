"""Tests, in folders named after what they test; `support` holds what several folders need."""
