"""A bulk call whose answer is lost, and whose rows do not stay together."""

import asyncio

from structlog.testing import capture_logs

from tests.model.ledger import Ledger
from tests.model.ledger_rows import Row
from tests.model.model_outbox import Owner
from tests.model.novu import Answer
from tests.model.simulation import NODES, STEP, History
from tests.model.state_machine import CROWD


def play(history: History, *names: str, answer: Answer = Answer.ACCEPT) -> None:
    """Let the run take these steps."""
    for name in names:
        [step] = history.control.steps
        assert step.name == name
        history.play(step, answer)


def test_repeated_bulk_call_that_loses_a_row_is_not_another_call():
    loop = asyncio.new_event_loop()
    with capture_logs():
        history = History(loop, Owner(Ledger()))
        for row_id in (1, 2):
            history.insert(Row(row_id, f"birth-{row_id}", list(CROWD)))
        history.wake(NODES[0])
        history.start(history.waiting[0])
        [workflow] = history.workflows.values()
        history.begin(workflow, NODES[0])
        play(history, "acquire", "record_calls")
        play(history, "trigger", answer=Answer.LOST_AFTER)
        play(history, "settle")
        history.let_pass(STEP)
        history.begin(workflow, NODES[0])
        play(history, "acquire")
        history.change(2, published=False)
        play(history, "record_calls", "release")
        history.come_to_rest(kill=False)
        assert history.ledger.rows[1].status == "SENT"
        assert set(history.novu.effects.values()) == {1}
        assert len(history.novu.effects) == 2 * len(CROWD)
        history.end()
    loop.close()
