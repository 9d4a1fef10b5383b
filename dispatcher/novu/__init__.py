"""Novu: the client on novu-py, with its circuit breaker and its rate limiter."""
