"""Our Novu stand-in: a real HTTP server process that answers as Novu does, for tests, demo, dev stack and benchmarks.

Written from observations of Novu 2.0.0 and readings of newer versions, never from its code. `process.running()` starts
one and ends it; `python -m dispatcher.devstack.fake_novu` is the process itself.
"""
