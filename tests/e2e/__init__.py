"""Real dispatcher processes beside real servers."""
