"""The local stack without Docker: PostgreSQL, Temporal, a fake Novu, and the demo on top of them."""
