"""README and docs/, compared with the code."""
