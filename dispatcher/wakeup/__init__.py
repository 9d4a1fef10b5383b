"""Wake-ups: the signal that the claim loop waits for, the listener, and adaptive NOTIFY."""
