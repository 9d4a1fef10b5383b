"""Which modules may import which."""
