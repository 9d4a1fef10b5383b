"""Thousands of histories of rows, runs, crashes and answers, with the real decision core and the real activities.

The outbox is the reference ledger in memory; tests/model/test_model_in_postgres.py runs the same histories on the real
one. `DISPATCHER_MODEL_EXAMPLES=5000` makes a long run with a random seed (see tests/model/state_machine.py).
"""

from hypothesis.stateful import run_state_machine_as_test
from structlog.testing import capture_logs

from tests.model.state_machine import Machine, how_many


def test_model_in_memory_keeps_every_invariant():
    with capture_logs():
        run_state_machine_as_test(Machine, settings=how_many(300))
