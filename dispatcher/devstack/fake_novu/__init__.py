"""The fake Novu: an HTTP server process that answers as Novu does, for tests, demo, dev stack and benchmarks.

Written from observations of Novu 3.19.0, which it imitates by default, and of 2.0.0 (`variant`), never from its code.
`process.run_fake_novu()` starts and ends one; `python -m dispatcher.devstack.fake_novu` is the process itself.
"""
