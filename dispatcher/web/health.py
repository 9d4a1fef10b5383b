"""The health routes: the state of this process, /status, and the metrics.

Liveness only shows that the event loop runs, because a restart repairs nothing outside. Readiness names the components
that failed; their reasons are in /status, which needs the token.
"""

import asyncio
import os
import platform
import resource
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, TypeVar
from uuid import UUID

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dispatcher import __version__
from dispatcher.telemetry import metrics
from dispatcher.telemetry.health import ProcessHealth
from dispatcher.web import status_document
from dispatcher.web.backlog_metrics import BacklogMetrics

METHODS = ["GET", "OPTIONS"]
REFUSED_REMEDY = (
    "dispatcher list --dead-letters shows the rows and the rules of the table; dispatcher retry ID tries one again"
)

Value = TypeVar("Value")


class Health:
    """The health routes of one process. `registries`: the metrics that it shows beside the database's."""

    def __init__(
        self,
        health: ProcessHealth,
        numbers: BacklogMetrics,
        enterprises: Sequence[UUID],
        *registries: CollectorRegistry,
    ) -> None:
        self._health = health
        self._numbers = numbers
        self._enterprises = [str(each) for each in enterprises]
        self._registries = (metrics.base_registry, *registries)
        self._database = CollectorRegistry(auto_describe=False)
        self._database.register(numbers)
        self._metrics = Cached(self._make_metrics)
        self._status = Cached(self._make_status)

    @property
    def routes(self) -> list[Route]:
        """The routes, of which the first four need no token."""
        pages = {
            "/health": self.health,
            "/livez": self.livez,
            "/readyz": self.readyz,
            "/startupz": self.startupz,
            "/status": self.status,
            "/health/detailed": self.detailed,
            "/health/subscriptions": self.subscriptions,
            "/metrics": self.metrics,
        }
        return [Route(path, page, methods=METHODS) for path, page in pages.items()]

    async def health(self, _: Request) -> Response:
        """Answer as XNovu did: 503 only while this process stops."""
        return JSONResponse(self._brief(), 503 if self._health.stopping else 200)

    async def livez(self, _: Request) -> Response:
        """Answer 200. An answer alone proves liveness."""
        return JSONResponse({"status": "ok"})

    async def startupz(self, _: Request) -> Response:
        """Answer 200 once every component has reported, before that 503."""
        waiting_for = sorted(self._health.not_reported_yet)
        if self._health.started:
            return JSONResponse({"status": "started"})
        return JSONResponse({"status": "starting", "waiting_for": waiting_for}, 503)

    async def readyz(self, _: Request) -> Response:
        """Answer 200 if every component works, otherwise 503 with the names of those that do not.

        Rows that the table refuses are named, too. They make no process unready, because all other rows are sent.
        """
        health = self._health
        self._numbers.start_query()  # for the next answer: this one must not wait for the database
        refused = self._numbers.known.get("refused")
        named = {"refused_rows": refused, "remedy": REFUSED_REMEDY} if refused else {}
        if health.ready:
            return JSONResponse({"status": "ready", **named})
        status = "stopping" if health.stopping else "not ready" if health.started else "starting"
        since = {part: outage.since.isoformat() for part, outage in health.outages.items()}
        document = {
            "status": status,
            "broken": sorted(since),
            "since": since,
            "waiting_for": sorted(health.not_reported_yet),
            **named,
        }
        return JSONResponse(document, 503)

    async def status(self, _: Request) -> Response:
        """Answer with the whole document."""
        return JSONResponse(await self._status.get())

    async def detailed(self, _: Request) -> Response:
        """Answer with /status, and the memory and CPU time of this process."""
        return JSONResponse({**await self._status.get(), "process": process_usage()})

    async def subscriptions(self, _: Request) -> Response:
        """Answer with the state of the listeners, in the shape of XNovu's subscriptions."""
        numbers = await self._numbers.read()
        return JSONResponse({**status_document.subscriptions(self._health, numbers), "timestamp": machine_time()})

    async def metrics(self, _: Request) -> Response:
        """Answer with every metric in Prometheus's text format."""
        return Response(await self._metrics.get(), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    async def _make_metrics(self) -> bytes:
        await self._numbers.read()
        texts = [generate_latest(registry) for registry in (*self._registries, self._database)]
        return b"".join((*texts, self._xnovu()))

    async def _make_status(self) -> dict[str, Any]:
        numbers = await self._numbers.read()
        database = {
            "status": "unhealthy" if self._numbers.error or self._numbers.is_stale else self._health.state("postgres"),
            "error": self._numbers.error,
            "numbers_seconds_old": self._numbers.age,
        }
        return {
            **self._brief(),
            **status_document.status(self._health, numbers, self._enterprises),
            "database": database,
        }

    def _brief(self) -> dict[str, Any]:
        """Return XNovu's four keys, which /health and /status begin with."""
        health = self._health
        status = "unhealthy" if health.stopping else "healthy" if health.ready else "degraded"
        return {"status": status, "uptime": self._uptime, "timestamp": machine_time(), "version": __version__}

    @property
    def _uptime(self) -> float:
        return max(0.001, (datetime.now(UTC) - self._health.began).total_seconds())

    def _xnovu(self) -> bytes:
        """Return the metrics that XNovu's dashboards read, in Prometheus's text format."""
        total, active, reconnecting = status_document.listener_counts(self._health, self._numbers.known)
        worker = {
            "xnovu_worker_uptime_seconds": self._uptime,
            "xnovu_worker_healthy": float(self._health.ready),
        }
        values = {
            **(worker if "listener" in self._health.expected else {}),
            "xnovu_subscriptions_total": total,
            "xnovu_subscriptions_active": active,
            "xnovu_subscriptions_failed": 0,
            "xnovu_subscriptions_reconnecting": reconnecting,
        }
        return generate_latest(
            Families([GaugeMetricFamily(name, "As XNovu.", value=each) for name, each in values.items()])
        )


class Cached(Generic[Value]):
    """A value that is made at most once a second, however many requests ask for it."""

    def __init__(self, make: Callable[[], Awaitable[Value]]) -> None:
        self._make = make
        self._made: tuple[float, Value] | None = None
        self._lock = asyncio.Lock()

    async def get(self) -> Value:
        """Return the value, made within the last second."""
        async with self._lock:
            if self._made is None or time.monotonic() - self._made[0] >= 1:
                made = await self._make()
                self._made = (time.monotonic(), made)
            return self._made[1]


class Families:
    """A Prometheus collector for metrics that are made for one response."""

    def __init__(self, families: list[GaugeMetricFamily]) -> None:
        self._families = families

    def collect(self) -> list[GaugeMetricFamily]:
        """Return the metrics."""
        return self._families


def machine_time() -> str:
    """Return this machine's time as ISO 8601, in UTC."""
    return datetime.now(UTC).isoformat()


def process_usage() -> Mapping[str, Any]:
    """Return memory in bytes and CPU time in seconds of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    try:
        resident = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()
    except OSError:  # not Linux
        resident = used.ru_maxrss
    return {
        "pid": os.getpid(),
        "memory": {"rss": resident},
        "cpu": {"user": used.ru_utime, "system": used.ru_stime},
        "pythonVersion": platform.python_version(),
    }
