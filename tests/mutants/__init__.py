"""Bugs planted one by one: a suite that has never caught a bug proves nothing.

`make mutants` copies the tree, replaces one short piece of text at a time (`catalogue.py`), runs the few tests that
must notice it, and puts the text back. It fails when a bug survives, when a replacement no longer fits, and when
the tests are red without any bug. The working tree is never touched. One alone: `make mutants ONLY="drop the fence"`.
"""
