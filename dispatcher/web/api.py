"""XNovu's trigger API: send notifications by their ids, show their state, retract them. Off unless it is switched on.

It changes rows as an operator's commands do, each change with its entry in `dispatcher.action`. It starts no workflow:
a free dispatcher claims the row as any other. A request that is repeated sends once. Where XNovu contradicts itself or
would do harm, this is decided:

- Unknown ids are 404 and rows that may not be sent 409, with `error`; XNovu had 500, or 200 with `success: false`.
- Waiting ends after MAX_WAIT_SECONDS with 202 and the row's state. A row that ended is 200, FAILED too, as XNovu's.
- A notification that a recipient has already is not sent again, unless the body says `resend: true`.
- A workflow is named `notification-<id>`; `runId` and `historyLength`, which only Temporal knows, are null.
- Cancelling a workflow retracts its row. If only the workflow were cancelled, a sweep would start it again.
- A body with unknown keys is refused: otherwise a notification meant for later could be sent now.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import UUID

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dispatcher.postgres.lock_retry import LOCK_RETRIES, LOCK_RETRY_SECONDS, change_with_retry
from dispatcher.postgres.operator_decisions import preview_of, retract_obstacle
from dispatcher.postgres.operator_rows import PreviewRow, RowDetails
from dispatcher.postgres.row_filter import RowFilter
from dispatcher.telemetry.health import ProcessHealth
from dispatcher.web import responses
from dispatcher.web.database_handle import DatabaseHandle
from dispatcher.web.schemas import CancelBody, TriggerBody, is_cross_site, parse_body, parse_id, parse_workflow_name

MAX_PARALLEL_REQUESTS = 16
"""How many requests are served at a time; more get 503. The port takes 64 connections, and health checks need some."""
MAX_WAITING_REQUESTS = 8
"""How many requests wait for a run to end; more get the present state at once, so that a cancellation finds room."""
MAX_WAIT_SECONDS = 20.0
RESULT_POLL_SECONDS = 0.25

LOCKED = "is locked or was changed by another transaction: try again"

Handler = Callable[[Request], Awaitable[Response]]


class TriggerApi:
    """The trigger API of one process, for rows of these enterprises; none means all."""

    def __init__(self, health: ProcessHealth, enterprises: Sequence[UUID]) -> None:
        self.database = DatabaseHandle()
        self._health = health
        self._enterprises = tuple(str(each) for each in enterprises)
        self._in_progress = self._waiting = 0

    @property
    def routes(self) -> list[Route]:
        """The routes, with XNovu's paths."""
        pages: dict[str, dict[str, Handler]] = {
            "/api/trigger-async": {"POST": self.trigger, "GET": self.state_by_query},
            "/api/notifications/{notification}/cancel": {"POST": self.retract_by_path},
            "/api/temporal/workflow/{workflow}/status": {"GET": self.state_by_path},
            "/api/temporal/workflow/{workflow}/cancel": {"POST": self.retract_by_workflow},
        }
        return [Route(path, self._limited(by_method(page)), methods=[*page, "OPTIONS"]) for path, page in pages.items()]

    async def trigger(self, request: Request) -> Response:
        """Send one notification or many. If `async` is false, wait until they have ended."""
        body = await parse_body(request, TriggerBody)
        refused = await self._send(body)
        if body.returns_at_once:
            return trigger_response(body, await self._find_rows(body.ids), refused, responses.queued)
        seconds = MAX_WAIT_SECONDS if self._waiting < MAX_WAITING_REQUESTS else 0
        self._waiting += 1
        try:
            rows = await self._wait_final(body.ids, seconds)
        finally:
            self._waiting -= 1
        return trigger_response(body, rows, refused, responses.result)

    async def state_by_query(self, request: Request) -> Response:
        """Return the state of the workflow that the query names."""
        return await self._state(request.query_params.get("workflowId", ""))

    async def state_by_path(self, request: Request) -> Response:
        """Return the state of the workflow that the path names."""
        return await self._state(request.path_params["workflow"])

    async def retract_by_workflow(self, request: Request) -> Response:
        """Retract the notification of the workflow that the path names."""
        row = await self._find_by_workflow(request.path_params["workflow"])
        return await self._retract(row, await parse_body(request, CancelBody))

    async def retract_by_path(self, request: Request) -> Response:
        """Retract a notification, as `dispatcher retract` does."""
        notification_id = parse_id(request.path_params["notification"])
        return await self._retract(await self._find_row(notification_id), await parse_body(request, CancelBody))

    def _limited(self, handler: Handler) -> Handler:
        """Return the handler, limited to MAX_PARALLEL_REQUESTS of all handlers together."""

        async def counted(request: Request) -> Response:
            if self._in_progress >= MAX_PARALLEL_REQUESTS:
                raise HTTPException(
                    503, f"{MAX_PARALLEL_REQUESTS} requests are in progress: try again", {"retry-after": "1"}
                )
            self._in_progress += 1
            try:
                return await handler(request)
            finally:
                self._in_progress -= 1

        return counted

    async def _state(self, workflow: str) -> Response:
        return JSONResponse(responses.workflow_state(await self._find_by_workflow(workflow)))

    async def _retract(self, row: RowDetails, body: CancelBody) -> Response:
        """Retract a row, also if a dispatcher changes it meanwhile: each try reads the row again."""
        operator = await self.database.ready()
        for _ in range(LOCK_RETRIES):
            preview = preview_of(row)
            if retract_obstacle(preview) or await operator.retract([preview], body.reason):
                return JSONResponse(responses.retracted(row))
            await asyncio.sleep(LOCK_RETRY_SECONDS)
            row = await self._find_row(row["id"])
        raise HTTPException(409, f"notification {row['id']} {LOCKED}")

    async def _send(self, body: TriggerBody) -> dict[int, str]:
        """Set rows back to PENDING where that is needed; return the reason for each row that cannot be sent."""
        rows = await self._find_rows(body.ids)
        refused = {key: why for key, row in rows.items() if (why := responses.cannot_send(row, resend=body.resend))}
        sendable = [row for key, row in rows.items() if key not in refused]
        to_reset = [preview_of(row) for row in sendable if responses.needs_reset(row, resend=body.resend)]
        if to_reset:
            reset = await self._reset_to_pending(to_reset, body.reason)
            left = await self._find_rows([row.id for row in to_reset if row.id not in reset])
            # A row that changed meanwhile is sent by another request, or was retracted: the response shows its state.
            refused |= {key: LOCKED for key, row in left.items() if preview_of(row) == preview_of(rows[key])}
        return refused

    async def _reset_to_pending(self, rows: list[PreviewRow], reason: str | None) -> set[int]:
        """Set rows back to PENDING; return the ids of those that were free within two seconds."""
        operator = await self.database.ready()
        return set(await change_with_retry(lambda batch: operator.resend(batch, reason), rows))

    async def _wait_final(self, ids: list[int], seconds: float) -> dict[int, RowDetails]:
        """Return the rows once all have ended, or as they are after `seconds` or when this process stops."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + seconds
        while True:
            rows = await self._find_rows(ids)
            waits = any(map(responses.in_progress, rows.values())) and not self._health.stopping
            if not waits or clock() > deadline:
                return rows
            await asyncio.sleep(RESULT_POLL_SECONDS)

    async def _find_rows(self, ids: list[int]) -> dict[int, RowDetails]:
        """Return the rows that exist and belong to an enterprise that we serve, by id."""
        if not ids:
            return {}
        operator = await self.database.ready()
        rows = await operator.find_rows(RowFilter(ids=tuple(ids), enterprises=self._enterprises))
        return {row["id"]: row for row in rows}

    async def _find_row(self, notification_id: int) -> RowDetails:
        """Return one row. Raises HTTPException 404 if `_find_rows` would not return it."""
        rows = await self._find_rows([notification_id])
        if not rows:
            raise HTTPException(404, f"there is no notification {notification_id}")
        return rows[notification_id]

    async def _find_by_workflow(self, name: str) -> RowDetails:
        """Return the row of a workflow. `name`: ours, or Temporal's workflow id of the present generation.

        Raises HTTPException 404 for the workflow id of an earlier generation.
        """
        row = await self._find_row(parse_workflow_name(name))
        if name not in (responses.workflow_name(row["id"]), row["temporal_workflow_id"]):
            raise HTTPException(
                404, f"that workflow has ended; the notification's own is {responses.workflow_name(row['id'])}"
            )
        return row


def trigger_response(
    body: TriggerBody,
    rows: dict[int, RowDetails],
    refused: dict[int, str],
    result_of: Callable[[RowDetails, str | None], dict[str, Any]],
) -> Response:
    """Return the response to a trigger: 202 if the request waited and a row has not ended."""
    results = [result_of(rows[key], refused.get(key)) if key in rows else responses.missing(key) for key in body.ids]
    unfinished = not body.returns_at_once and any(map(responses.in_progress, rows.values()))
    status = 202 if unfinished else 200
    if body.notification_id is None:
        return JSONResponse(responses.batch_result(results, waited=not body.returns_at_once), status)
    [key] = body.ids
    status = 404 if key not in rows else 409 if key in refused else status
    return JSONResponse({"async": body.returns_at_once, **results[0]}, status)


def by_method(page: dict[str, Handler]) -> Handler:
    """Return one handler that calls the page's handler for the request's method, and answers OPTIONS."""

    async def dispatch(request: Request) -> Response:
        if request.method == "OPTIONS":
            return Response(headers={"allow": ", ".join([*page, "OPTIONS"])})
        if request.method == "POST" and is_cross_site(request):
            raise HTTPException(403, "a page of another site may not send this request")
        return await page["GET" if request.method == "HEAD" else request.method](request)

    return dispatch
