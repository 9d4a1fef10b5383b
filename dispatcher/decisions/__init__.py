"""Pure decisions: no I/O and no clock. They get facts as arguments and return what to do."""
