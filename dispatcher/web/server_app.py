"""The port of a process with all that it serves: there before anything is connected, until all is handed back."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from psycopg.errors import InsufficientPrivilege
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from dispatcher.config.settings import Settings
from dispatcher.postgres.outbox import OutboxStore
from dispatcher.postgres.pool import CONNECTION_ERRORS, Pool
from dispatcher.telemetry import health as condition
from dispatcher.telemetry.logs import get_logger
from dispatcher.web.api import Api
from dispatcher.web.backlog_metrics import BacklogMetrics
from dispatcher.web.guard import Guard
from dispatcher.web.health import Health
from dispatcher.web.server import bind, on_loopback, serving

log = get_logger("server_app")


@dataclass(frozen=True, slots=True)
class ServedPort:
    """What is served. `private`: whether only this machine can reach it."""

    settings: Settings
    numbers: BacklogMetrics
    api: Api | None
    private: bool

    def attach_database(self, pool: Pool, outbox: OutboxStore) -> None:
        """Take the database, once it is there."""
        self.numbers.outbox = outbox
        if self.api is not None:
            self.api.attach_database(pool, self.settings.outbox)


@asynccontextmanager
async def serve_port(settings: Settings, *registries: CollectorRegistry) -> AsyncGenerator[ServedPort]:
    """Serve for the block; `registries`: the metrics that are shown beside the database's."""
    numbers = BacklogMetrics()
    api = Api(condition.process_health, settings.enterprise_ids) if settings.http_api else None
    listening = bind(settings.http_host, settings.http_port)
    here = ServedPort(settings, numbers, api, on_loopback(listening))
    health = Health(condition.process_health, numbers, settings.enterprise_ids, *registries)
    routes = health.routes if api is None else [*health.routes, *api.routes]
    async with serving(listening, guarded(routes, settings.http_token, private=here.private)):
        yield here


def guarded(routes: Sequence[Route], token: SecretStr | None, *, private: bool) -> ASGIApp:
    """Return the routes behind their guard, with JSON for everything that goes wrong."""
    told = {
        HTTPException: http_error,
        InsufficientPrivilege: not_granted,
        **dict.fromkeys(CONNECTION_ERRORS, database_unavailable),
        Exception: internal_error,
    }
    return Guard(Starlette(routes=routes, exception_handlers=told), token, private=private)


async def http_error(_: Request, error: Exception) -> Response:
    """Say what is wrong with a request."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = getattr(error, "headers", None)
    return JSONResponse({"error": str(getattr(error, "detail", "error"))}, status, headers)


async def not_granted(_: Request, error: Exception) -> Response:
    """Say what the database's owner has to do."""
    log.warning("api_not_granted", error=str(error))
    remedy = "as the tables' owner run what dispatcher db sql grants --operator --role NAME prints"
    return JSONResponse({"error": f"this process may not do that in the database: {remedy}"}, 503)


async def database_unavailable(_: Request, error: Exception) -> Response:
    """Say that the database is away. What was asked for may have been done."""
    log.warning("api_without_database", error=str(error))
    return JSONResponse({"error": "the database does not answer: look what was done, and ask again"}, 503)


async def internal_error(_: Request, __: Exception) -> Response:
    """Say that it is our fault; the log has the rest."""
    return JSONResponse({"error": "internal error"}, 500)
