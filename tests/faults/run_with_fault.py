"""`dispatcher run` with a fault built in, of which the package knows nothing.

`python -m tests.faults.run_with_fault FAULT [SECONDS]` starts it.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.worker import Worker

from dispatcher.__main__ import main
from dispatcher.app import signals
from dispatcher.decisions import unknown_outcomes, validation
from dispatcher.delivery import sender, worker, workflows
from dispatcher.models.workflow_contract import Batch
from dispatcher.postgres.outbox import OutboxStore
from tests.support.replace_attribute import replace_attribute


@workflow.defn(name="Renamed")
class Renamed:
    """The workflow of a build that does not know ours."""

    @workflow.run
    async def run(self, _: Batch) -> None:
        """Do nothing."""


@asynccontextmanager
async def no_workers(*_: Any, **__: Any) -> AsyncGenerator[None]:
    """Replace the workers with nothing: no queue is polled."""
    yield


async def never_ends(*_: Any, **__: Any) -> None:
    """Replace a shutdown with one that hangs."""
    await asyncio.Event().wait()


def without_worker(_: float) -> None:
    """Start workflows without a worker in this process."""
    replace_attribute(worker, "run_workers", no_workers)


def bad_build(_: float) -> None:
    """Fail every workflow task for ever: the workflow's type is unknown here."""
    replace_attribute(worker, "NotificationDelivery", Renamed)


def endless_shutdown(seconds: float) -> None:
    """Never come back from the workers' shutdown; the watchdog waits `seconds`."""
    replace_attribute(Worker, "shutdown", never_ends)
    replace_attribute(signals, "MAX_STOP_SECONDS", seconds)


def short_heartbeat(seconds: float) -> None:
    """Give up on an activity that is silent for `seconds`, instead of 15."""
    replace_attribute(workflows, "HEARTBEAT_TIMEOUT", timedelta(seconds=seconds))


def blocked_loop(seconds: float) -> None:
    """Block the event loop for `seconds`, once, right after the first call left."""
    sending: Callable[..., Awaitable[Any]] = OutboxStore.record_calls
    short_heartbeat(2)

    async def wrapped(*args: Any) -> Any:
        allowed = await sending(*args)
        replace_attribute(OutboxStore, "record_calls", sending)
        asyncio.get_running_loop().call_later(0.1, block, seconds)
        return allowed

    replace_attribute(OutboxStore, "record_calls", wrapped)


def block(seconds: float) -> None:
    """Block, and say so."""
    print("BLOCKED", flush=True)  # noqa: T201
    time.sleep(seconds)
    print("UNBLOCKED", flush=True)  # noqa: T201


def short_calls(seconds: float) -> None:
    """Close a call without an answer after `seconds` instead of 40; the other times of calls shrink with it."""
    scale = seconds / unknown_outcomes.CALL_TIMEOUT_SECONDS
    for module, name in (
        (unknown_outcomes, "CALL_TIMEOUT_SECONDS"),
        (unknown_outcomes, "NOVU_VISIBILITY_SECONDS"),
        (unknown_outcomes, "LOOKUP_AGAIN_SECONDS"),
        (sender, "CALL_TIMEOUT_SECONDS"),
        (sender, "ANSWER_TIMEOUT_SECONDS"),
    ):
        replace_attribute(module, name, getattr(module, name) * scale)
    timed_out = sender.ANSWER_TIMED_OUT
    replace_attribute(sender, "ANSWER_TIMED_OUT", replace(timed_out, retry_after=seconds * 0.875 + 0.1))


def deadly_row(seconds: float) -> None:
    """Die while a row is read whose payload says so, and notice a dead activity after `seconds`."""
    reading_json: Callable[[str, str], str | None] = validation.json_error
    short_heartbeat(seconds)

    def wrapped(column: str, text: str) -> str | None:
        if "deadly" in text:
            os.kill(os.getpid(), signal.SIGKILL)
        return reading_json(column, text)

    replace_attribute(validation, "json_error", wrapped)


FAULTS: dict[str, Callable[[float], None]] = {
    "without-worker": without_worker,
    "bad-build": bad_build,
    "endless-shutdown": endless_shutdown,
    "short-heartbeat": short_heartbeat,
    "blocked-loop": blocked_loop,
    "short-calls": short_calls,
    "deadly-row": deadly_row,
}

if __name__ == "__main__":
    FAULTS[sys.argv[1]](float(sys.argv[2]) if len(sys.argv) > 2 else 0)
    sys.argv[1:] = ["run"]
    main()
