"""The client of Novu, its circuit breaker and its rate limit."""
