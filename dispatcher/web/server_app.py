"""The HTTP port of a process and its routes. It opens before anything is connected, and closes last."""

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
from dispatcher.postgres.pool import CONNECTION_ERRORS, LOCK_ERRORS, Pool
from dispatcher.telemetry.health import process_health
from dispatcher.telemetry.logs import get_logger
from dispatcher.web.api import TriggerApi
from dispatcher.web.backlog_metrics import BacklogMetrics
from dispatcher.web.guard import Guard
from dispatcher.web.health import Health
from dispatcher.web.server import bind, on_loopback, serving

log = get_logger("server_app")


@dataclass(frozen=True, slots=True)
class ServedPort:
    """The parts behind the open port. `api` is None if it is off. `private`: whether only this machine can reach it."""

    settings: Settings
    numbers: BacklogMetrics
    api: TriggerApi | None
    private: bool

    def attach_database(self, pool: Pool, outbox: OutboxStore) -> None:
        """Use this database from now on. Until then the pages show no numbers, and the API answers 503."""
        self.numbers.outbox = outbox
        if self.api is not None:
            self.api.database.attach(pool, self.settings.outbox)


@asynccontextmanager
async def serve_port(settings: Settings, *registries: CollectorRegistry) -> AsyncGenerator[ServedPort]:
    """Serve during the block. `registries`: the metrics of this process, shown beside the database's.

    Raises ConfigurationError if the address cannot be used.
    """
    numbers = BacklogMetrics()
    api = TriggerApi(process_health, settings.enterprise_ids) if settings.http_api else None
    listening = bind(settings.http_host, settings.http_port)
    port = ServedPort(settings, numbers, api, on_loopback(listening))
    health = Health(process_health, numbers, settings.enterprise_ids, *registries)
    routes = health.routes if api is None else [*health.routes, *api.routes]
    async with serving(listening, guarded(routes, settings.http_token, private=port.private)):
        yield port


def guarded(routes: Sequence[Route], token: SecretStr | None, *, private: bool) -> ASGIApp:
    """Return the app: the routes behind the guard. Every error becomes a JSON object with the key `error`."""
    handlers = {
        HTTPException: http_error,
        InsufficientPrivilege: not_granted,
        **dict.fromkeys(CONNECTION_ERRORS, database_unavailable),
        **dict.fromkeys(LOCK_ERRORS, locked_by_another),
        Exception: internal_error,
    }
    return Guard(Starlette(routes=routes, exception_handlers=handlers), token, private=private)


async def http_error(_: Request, error: Exception) -> Response:
    """Answer with the status and the sentence of the error."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = getattr(error, "headers", None)
    return JSONResponse({"error": str(getattr(error, "detail", "error"))}, status, headers)


async def not_granted(_: Request, error: Exception) -> Response:
    """Answer 503 with the command that the tables' owner has to run."""
    log.warning("api_not_granted", error=str(error))
    remedy = "as the tables' owner, run the output of dispatcher db sql grants --operator --role NAME"
    return JSONResponse({"error": f"the database role of this process lacks a right: {remedy}"}, 503)


async def database_unavailable(_: Request, error: Exception) -> Response:
    """Answer 503: the database does not answer. The change may have been made, because its confirmation can be lost."""
    log.warning("api_without_database", error=str(error))
    return JSONResponse(
        {"error": "the database does not answer: check whether the change was made, and try again"}, 503
    )


async def locked_by_another(_: Request, error: Exception) -> Response:
    """Answer 503: another transaction keeps a lock. Nothing was changed."""
    log.warning("lock_timeout", error=str(error))
    return JSONResponse({"error": "another transaction holds a lock that this needs: try again"}, 503)


async def internal_error(_: Request, __: Exception) -> Response:
    """Answer 500. The exception is in the log, not in the response."""
    return JSONResponse({"error": "internal error"}, 500)
