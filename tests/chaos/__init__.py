"""A mixed run: thousands of rows, a random fault every few seconds, and one result when all is healed.

`make chaos` runs it; `SEED` repeats a run's rows, faults and times. The seed and the schedule are printed first.
"""
