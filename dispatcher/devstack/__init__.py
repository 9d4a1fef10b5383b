"""The local stack without Docker: PostgreSQL, Temporal and a fake Novu; and the demo, which runs on them."""
