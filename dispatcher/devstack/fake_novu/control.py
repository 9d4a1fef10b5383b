"""The fake Novu's own endpoints under /_standin: what happened, and how it should behave. Not part of Novu.

GET summary, effects, requests, requests/{seq}/body, state, faults; POST config, reset, workflows, tenants, topics,
environments, faults (adds a rule), faults/clear. An invalid request gets 400 with `{"error": sentence}`.
"""

import os
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dispatcher.devstack.fake_novu.api import NovuApi
from dispatcher.devstack.fake_novu.registry import workflow_from
from dispatcher.devstack.fake_novu.settings import BadControl

DEFAULT_LIMIT = 50_000


class Control:
    """The handlers of the control endpoints."""

    def __init__(self, novu: NovuApi) -> None:
        self._novu = novu

    def routes(self) -> list[Route]:
        """Return the routes, with paths relative to the mount point."""
        posts: dict[str, Callable[[Any], object]] = {
            "/config": self._configure,
            "/reset": self._reset,
            "/workflows": lambda data: self._novu.registry.add_workflow(workflow_from(data)),
            "/tenants": lambda data: self._novu.registry.tenants.add(_text(data, "identifier")),
            "/topics": self._add_topic,
            "/environments": self._add_environment,
            "/faults": self._novu.faults.add,
            "/faults/clear": lambda _: self._novu.faults.rules.clear(),
        }
        return [
            Route("/summary", self.summary),
            Route("/effects", self.effects),
            Route("/requests", self.requests),
            Route("/requests/{seq:int}/body", self.body),
            Route("/state", self.state),
            Route("/faults", self.faults, methods=["GET"]),
            *(Route(path, _posted(change), methods=["POST"]) for path, change in posts.items()),
        ]

    async def summary(self, request: Request) -> Response:  # noqa: ARG002  (Starlette's signature)
        """Return counts only."""
        worker = self._novu.worker
        queue = {"queued": len(worker.queue), "in_flight": worker.in_flight}
        lost = {"worker_duplicates": worker.duplicates, "worker_losses": len(worker.losses)}
        return JSONResponse(self._novu.ledger.summary() | queue | lost)

    async def effects(self, request: Request) -> Response:
        """Return one row per (transactionId, subscriber); ?transaction_id= ?subscriber= ?least= ?offset= ?limit=."""
        query = request.query_params
        rows = self._novu.ledger.effects(
            _number(request, "offset", 0),
            _number(request, "limit", DEFAULT_LIMIT),
            transaction_id=query.get("transaction_id"),
            subscriber=query.get("subscriber"),
            least=_number(request, "least", 0),
        )
        return JSONResponse(rows)

    async def requests(self, request: Request) -> Response:
        """Return the request log in the order of the answers; ?offset= ?limit=."""
        offset, limit = _number(request, "offset", 0), _number(request, "limit", DEFAULT_LIMIT)
        return JSONResponse(self._novu.ledger.requests(offset, limit))

    async def body(self, request: Request) -> Response:
        """Return the body of a logged request, byte for byte; 404 if it is no longer kept."""
        body = self._novu.ledger.bodies.get(request.path_params["seq"])
        return Response(status_code=404) if body is None else Response(body)

    async def state(self, request: Request) -> Response:  # noqa: ARG002  (Starlette's signature)
        """Return configuration, registrations, and the worker's subscribers and losses."""
        worker = self._novu.worker
        subscribers = {name: fields for (_, name), fields in list(worker.subscribers.items())[-DEFAULT_LIMIT:]}
        return JSONResponse(
            {
                "pid": os.getpid(),
                "config": self._novu.config.as_json(),
                **self._novu.registry.as_json(),
                "requests_arrived": self._novu.ledger.arrived,
                "idempotency_records": len(self._novu.idempotency),
                "stored_runs": len(worker.runs),
                "subscribers": subscribers,
                "losses": [loss._asdict() for loss in worker.losses],
            }
        )

    async def faults(self, request: Request) -> Response:  # noqa: ARG002  (Starlette's signature)
        """Return how many calls each rule matched and hit, in the order in which the rules were added."""
        return JSONResponse([rule.as_json() for rule in self._novu.faults.rules])

    def _configure(self, data: dict[str, Any]) -> None:
        self._novu.config.change(data)
        self._novu.worker.process_queued()

    def _reset(self, data: dict[str, Any]) -> None:  # noqa: ARG002  (every change takes the posted data)
        self._novu.clear()

    def _add_topic(self, data: dict[str, Any]) -> None:
        members: Any = data.get("subscribers", [])
        self._novu.registry.topics[_text(data, "key")] = {str(member) for member in members}

    def _add_environment(self, data: dict[str, Any]) -> None:
        name, organization = str(data.get("name", "Production")), str(data.get("organization", ""))
        self._novu.registry.add_environment(_text(data, "api_key"), name, organization)


def _posted(change: Callable[[Any], object]) -> Callable[[Request], Any]:
    async def endpoint(request: Request) -> Response:
        try:
            data = await request.json() if await request.body() else {}
            if not isinstance(data, dict):
                raise BadControl("the body must be a JSON object")
            change(data)
        except ValueError as error:
            return JSONResponse({"error": str(error)}, 400)
        return JSONResponse({"ok": True})

    return endpoint


def _text(data: dict[str, Any], name: str) -> str:
    value = data.get(name)
    if not isinstance(value, str) or not value:
        raise BadControl(f"{name} must be a text")
    return value


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, "")
    return int(text) if text.isdecimal() else default
