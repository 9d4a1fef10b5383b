"""Pure decisions: no I/O and no clock. Each function gets facts as arguments and returns the action to take."""
