"""Novu: the client on novu-py, the circuit breaker and the rate limit in front of it."""
