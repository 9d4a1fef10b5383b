"""The process as a whole."""
