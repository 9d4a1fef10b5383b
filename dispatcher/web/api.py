"""XNovu's trigger API: send notifications by their ids, look after them, take them back. Off unless it is switched on.

It changes rows as an operator's commands do, each change with its entry in `dispatcher.action`, and starts no workflow
itself: what is due comes through the one door, whichever dispatcher is free. What is asked twice is sent once. Where
XNovu contradicts itself or would do harm, this is decided:

- Unknown ids are 404 and rows that may not be sent 409, with `error`; XNovu had 500, or 200 with `success: false`.
- Waiting ends after WAIT_SECONDS with 202 and where the row stands. A row that ended is 200, FAILED too, as XNovu's.
- What anybody has already is not sent again unless the body says `resend: true`.
- A workflow is named `notification-<id>`; `runId` and `historyLength`, which only Temporal knows, are null.
- Cancelling a workflow retracts its row: one that was only cancelled at Temporal would be rescued.
- A body with keys that are not known is refused, so that nothing is sent now that somebody meant to schedule.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dispatcher.config.table_names import parse_outbox_name
from dispatcher.postgres.operator_queries import OperatorQueries, PreviewRow, Row, RowFilter
from dispatcher.postgres.pool import Pool, borrow_connection
from dispatcher.postgres.statements import TableNames
from dispatcher.telemetry.health import ProcessHealth
from dispatcher.web import responses
from dispatcher.web.schemas import CancelBody, TriggerBody, is_cross_site, parse_body, parse_id, parse_workflow_name

MAX_PARALLEL_REQUESTS = 16
"""So many requests are worked on at a time, more are refused: the port has 64 places, and health checks need some."""
MAX_WAITING_REQUESTS = 8
"""So many of them wait for the end of a sending, more are answered at once: others want to take something back."""
MAX_WAIT_SECONDS = 20.0
RESULT_POLL_SECONDS = 0.25
MAX_PARALLEL_STATEMENTS = 2
"""The connections that the API has at a time; the others are for those who deliver."""
DATABASE_TIMEOUT_SECONDS = 5.0
"""What takes longer is silence: a lock is given up after 3 s."""
LOCK_RETRIES = 8
"""How often rows that somebody has locked are tried, a look apart."""

LOCKED = "is locked or was changed by another transaction: ask again"

Handler = Callable[[Request], Awaitable[Response]]


class Api:
    """The trigger API of one process."""

    def __init__(self, condition: ProcessHealth, enterprises: Sequence[UUID]) -> None:
        self._condition = condition
        self._enterprises = tuple(str(each) for each in enterprises)
        self._in_progress = self._waiting = 0
        self._unprepared: OperatorQueries | None = None
        self._prepared: OperatorQueries | None = None

    def attach_database(self, pool: Pool, outbox: str) -> None:
        """Take the database, once it is there."""
        free = asyncio.Semaphore(MAX_PARALLEL_STATEMENTS)

        @asynccontextmanager
        async def lend() -> AsyncGenerator[AsyncConnection[TupleRow]]:
            async with free, borrow_connection(pool, DATABASE_TIMEOUT_SECONDS) as connection:
                yield connection

        table = parse_outbox_name(outbox)
        self._unprepared = OperatorQueries(
            lend, TableNames(table.identifier, table.workflow.identifier), actor="HTTP API"
        )

    @property
    def routes(self) -> list[Route]:
        """The paths, which are XNovu's."""
        pages: dict[str, dict[str, Handler]] = {
            "/api/trigger-async": {"POST": self.trigger, "GET": self.state_by_query},
            "/api/notifications/{notification}/cancel": {"POST": self.retract},
            "/api/temporal/workflow/{workflow}/status": {"GET": self.state_by_path},
            "/api/temporal/workflow/{workflow}/cancel": {"POST": self.cancel},
        }
        return [Route(path, self._limited(by_method(page)), methods=[*page, "OPTIONS"]) for path, page in pages.items()]

    async def trigger(self, request: Request) -> Response:
        """Send one notification or many, and wait for what becomes of them where `async` is false."""
        asked = await parse_body(request, TriggerBody)
        refused = await self._send(asked)
        if asked.returns_at_once:
            return trigger_response(asked, await self._find_rows(asked.ids), refused, responses.queued)
        seconds = MAX_WAIT_SECONDS if self._waiting < MAX_WAITING_REQUESTS else 0
        self._waiting += 1
        try:
            rows = await self._wait_final(asked.ids, seconds)
        finally:
            self._waiting -= 1
        return trigger_response(asked, rows, refused, responses.result)

    async def state_by_query(self, request: Request) -> Response:
        """Say how the workflow stands that the query names."""
        return await self._state(request.query_params.get("workflowId", ""))

    async def state_by_path(self, request: Request) -> Response:
        """Say how the workflow stands that the path names."""
        return await self._state(request.path_params["workflow"])

    async def cancel(self, request: Request) -> Response:
        """Retract the notification of a workflow."""
        row = await self._find_by_workflow(request.path_params["workflow"])
        return await self._retract(row, await parse_body(request, CancelBody))

    async def retract(self, request: Request) -> Response:
        """Retract a notification, as `dispatcher retract` does."""
        notification_id = parse_id(request.path_params["notification"])
        return await self._retract(await self._find_row(notification_id), await parse_body(request, CancelBody))

    def _limited(self, answer: Handler) -> Handler:
        """Return the handler, for so many at once."""

        async def counted(request: Request) -> Response:
            if self._in_progress >= MAX_PARALLEL_REQUESTS:
                raise HTTPException(
                    503, f"{MAX_PARALLEL_REQUESTS} requests are being worked on: ask again", {"retry-after": "1"}
                )
            self._in_progress += 1
            try:
                return await answer(request)
            finally:
                self._in_progress -= 1

        return counted

    async def _state(self, workflow: str) -> Response:
        return JSONResponse(responses.workflow_state(await self._find_by_workflow(workflow)))

    async def _retract(self, row: Row, asked: CancelBody) -> Response:
        """Retract a row as it is, whatever a dispatcher may do with it meanwhile."""
        desk = await self._operator()
        for _ in range(LOCK_RETRIES):
            if row["status"] == "RETRACTED" or await desk.retract([responses.preview_of(row)], asked.reason):
                return JSONResponse(responses.retracted(row))
            await asyncio.sleep(RESULT_POLL_SECONDS)
            row = await self._find_row(row["id"])
        raise HTTPException(409, f"notification {row['id']} {LOCKED}")

    async def _send(self, asked: TriggerBody) -> dict[int, str]:
        """Set back to PENDING what needs it; return what cannot be sent, and why."""
        rows = await self._find_rows(asked.ids)
        refused = {key: why for key, row in rows.items() if (why := responses.cannot_send(row, resend=asked.resend))}
        able = [row for key, row in rows.items() if key not in refused]
        back = [responses.preview_of(row) for row in able if responses.needs_reset(row, resend=asked.resend)]
        if back:
            done = await self._reset_to_pending(back, asked.reason)
            left = await self._find_rows([row.id for row in back if row.id not in done])
            # What is no longer as it was is being sent by somebody else, or was taken back: it is told as it is.
            refused |= {
                key: LOCKED for key, row in left.items() if responses.preview_of(row) == responses.preview_of(rows[key])
            }
        return refused

    async def _reset_to_pending(self, rows: list[PreviewRow], reason: str | None) -> set[int]:
        """Set rows back to PENDING, and try those again that somebody has locked; return the ones that were changed."""
        desk, done = await self._operator(), set[int]()
        for turn in range(LOCK_RETRIES):
            await asyncio.sleep(RESULT_POLL_SECONDS if turn else 0)
            done |= set(await desk.resend([row for row in rows if row.id not in done], reason))
            if len(done) == len(rows):
                break
        return done

    async def _wait_final(self, ids: list[int], seconds: float) -> dict[int, Row]:
        """Return the rows once all have ended, or as they are when it is time."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + seconds
        while True:
            rows = await self._find_rows(ids)
            waits = any(map(responses.in_progress, rows.values())) and not self._condition.stopping
            if not waits or clock() > deadline:
                return rows
            await asyncio.sleep(RESULT_POLL_SECONDS)

    async def _operator(self) -> OperatorQueries:
        if self._prepared is None:
            if self._unprepared is None:
                raise HTTPException(503, "the database is not there yet: ask again")
            await self._unprepared.prepare()
            self._prepared = self._unprepared
        return self._prepared

    async def _find_rows(self, ids: list[int]) -> dict[int, Row]:
        """Return the rows that are there, and of an enterprise that we serve."""
        if not ids:
            return {}
        rows = await (await self._operator()).find_rows(RowFilter(ids=tuple(ids), enterprises=self._enterprises))
        return {row["id"]: row for row in rows}

    async def _find_row(self, notification_id: int) -> Row:
        rows = await self._find_rows([notification_id])
        if not rows:
            raise HTTPException(404, f"there is no notification {notification_id}")
        return rows[notification_id]

    async def _find_by_workflow(self, name: str) -> Row:
        """Return the row that a workflow sends: by our name for it, or by Temporal's of its present generation."""
        row = await self._find_row(parse_workflow_name(name))
        if name not in (responses.workflow_name(row["id"]), row["temporal_workflow_id"]):
            raise HTTPException(
                404, f"that workflow is over; the notification's own is {responses.workflow_name(row['id'])}"
            )
        return row


def trigger_response(
    asked: TriggerBody, rows: dict[int, Row], refused: dict[int, str], say: Callable[..., Any]
) -> Response:
    """Return the answer to a trigger: 202 where somebody waited for more than there is yet."""
    results = [say(rows[key], refused.get(key)) if key in rows else responses.missing(key) for key in asked.ids]
    more = not asked.returns_at_once and any(map(responses.in_progress, rows.values()))
    status = 202 if more else 200
    if asked.notification_id is None:
        return JSONResponse(responses.batch_result(results, waited=not asked.returns_at_once), status)
    [key] = asked.ids
    status = 404 if key not in rows else 409 if key in refused else status
    return JSONResponse({"async": asked.returns_at_once, **results[0]}, status)


def by_method(page: dict[str, Handler]) -> Handler:
    """Return the one that answers each method with its own."""

    async def answer(request: Request) -> Response:
        if request.method == "OPTIONS":
            return Response(headers={"allow": ", ".join([*page, "OPTIONS"])})
        if request.method == "POST" and is_cross_site(request):
            raise HTTPException(403, "a page of another site may not ask for this")
        return await page["GET" if request.method == "HEAD" else request.method](request)

    return answer
