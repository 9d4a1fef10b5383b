"""Files for the platforms: containers, examples, monitoring."""
