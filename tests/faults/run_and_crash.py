"""`dispatcher run` that kills itself at the n-th passing of a named point.

`python -m tests.faults.run_and_crash POINT NTH PROOF` starts it.

The points are put around functions of the package here, so that the package itself knows nothing of them. The file
PROOF is written just before, with the time.
"""

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import temporalio.workflow
from psycopg import AsyncConnection, Notify

from dispatcher.__main__ import main
from dispatcher.config.table_names import CHANNEL
from dispatcher.delivery import activities
from dispatcher.novu.client import NovuClient
from dispatcher.novu.http_client import RawJsonClient
from dispatcher.postgres.outbox import OutboxStore
from dispatcher.temporal.starter import WorkflowStarter
from dispatcher.wakeup.listener import Listener
from tests.support.replace_attribute import replace_attribute

Passed = Callable[[], None]
Function = Callable[..., Awaitable[Any]]


class Death:
    """Counts passings; the last one ends the process."""

    def __init__(self, nth: int, proof: Path) -> None:
        self._left = nth
        self._proof = proof

    def passed(self) -> None:
        """Count one; die at the last."""
        self._left -= 1
        if self._left == 0:
            self._proof.write_text(json.dumps({"at": time.time()}))
            os.kill(os.getpid(), signal.SIGKILL)


def before(owner: Any, name: str, passed: Passed) -> None:
    """Pass right before the function runs."""
    original: Function = getattr(owner, name)

    async def wrapped(*args: Any, **kwargs: Any) -> Any:
        passed()
        return await original(*args, **kwargs)

    replace_attribute(owner, name, wrapped)


def after(owner: Any, name: str, passed: Passed, counts: Callable[..., object] = lambda result, *args: True) -> None:
    """Pass right after the function ran, when its result and arguments count."""
    original: Function = getattr(owner, name)

    async def wrapped(*args: Any, **kwargs: Any) -> Any:
        result = await original(*args, **kwargs)
        if counts(result, *args):
            passed()
        return result

    replace_attribute(owner, name, wrapped)


def hint_read(passed: Passed) -> None:
    """A NOTIFY of the triggers was read; the claim loop is not woken yet."""
    hear: Function = getattr(Listener, "_receive")  # noqa: B009  (private: reached by name)

    class Overheard:
        def __init__(self, connection: AsyncConnection[Any]) -> None:
            self._connection = connection

        async def notifies(self) -> AsyncIterator[Notify]:
            async for notify in self._connection.notifies():
                if notify.channel == CHANNEL:
                    passed()
                yield notify

    replace_attribute(Listener, "_receive", lambda self, connection: hear(self, Overheard(connection)))


def start_sent(passed: Passed) -> None:
    """A start is on its way: in its first milliseconds, so that the server knows of it or not."""
    start: Function = WorkflowStarter.start

    async def wrapped(*args: Any) -> None:
        sent = asyncio.ensure_future(start(*args))
        await asyncio.sleep(random.uniform(0, 0.006))
        passed()
        await sent

    replace_attribute(WorkflowStarter, "start", wrapped)


def request_sent(passed: Passed) -> None:
    """The last byte of a trigger has left for Novu."""
    send: Function = RawJsonClient.send

    async def trace(event: str, _: Any) -> None:
        if event == "http11.send_request_body.complete":
            passed()

    async def wrapped(wire: RawJsonClient, request: httpx.Request, **kwargs: Any) -> httpx.Response:
        if request.method == "POST":
            request.extensions = {**request.extensions, "trace": trace}
        return await send(wire, request, **kwargs)

    replace_attribute(RawJsonClient, "send", wrapped)


def activity_completed(passed: Passed) -> None:
    """The workflow has its activity's result; Temporal does not know yet that the workflow is through."""
    after(temporalio.workflow, "execute_local_activity", passed)
    after(temporalio.workflow, "execute_activity", passed)


def final_status(passed: Passed) -> None:
    """Every row of the run is final; Temporal does not know it yet."""
    tallied: Callable[..., Any] = activities.count_results

    def wrapped(rows: Any) -> Any:
        tally = tallied(rows)
        passed()
        return tally

    replace_attribute(activities, "count_results", wrapped)


def is_open(_: None, __: OutboxStore, members: Any, ___: Any) -> bool:
    """Whether a settlement left one of its rows open."""
    return any(member.notification.has_unsettled_recipients for member in members)


POINTS: dict[str, Callable[[Passed], None]] = {
    "hint-read": hint_read,
    "claim-committed": lambda passed: after(OutboxStore, "claim", passed, lambda claim, *_: claim.starts),
    "start-sent": start_sent,
    "start-acked": lambda passed: after(WorkflowStarter, "start", passed),
    "activity-begun": lambda passed: before(OutboxStore, "acquire", passed),
    "recipient-claimed": lambda passed: after(OutboxStore, "record_calls", passed, lambda allowed, *_: allowed),
    "request-sent": request_sent,
    "answer-read": lambda passed: after(NovuClient, "trigger", passed),
    "ledger-written": lambda passed: after(OutboxStore, "settle", passed, is_open),
    "last-recipient": lambda passed: after(OutboxStore, "settle", passed, lambda _, __, ___, rows: rows),
    "final-status": final_status,
    "activity-completed": activity_completed,
}
"""In the order in which one notification passes them."""


if __name__ == "__main__":
    point, nth, proof = sys.argv[1:]
    POINTS[point](Death(int(nth), Path(proof)).passed)
    sys.argv[1:] = ["run"]
    main()
