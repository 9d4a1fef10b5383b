"""The routes: how this process is, what it does, and its metrics.

Liveness only says that the loop turns: a restart mends nothing outside. Readiness names what is broken; reasons are for
whoever may see /status.
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

Made = TypeVar("Made")


class Health:
    """The health port of one process. `registries`: the metrics it shows beside the database's."""

    def __init__(
        self,
        condition: ProcessHealth,
        numbers: BacklogMetrics,
        enterprises: Sequence[UUID],
        *registries: CollectorRegistry,
    ) -> None:
        self._condition = condition
        self._numbers = numbers
        self._enterprises = [str(each) for each in enterprises]
        self._registries = (metrics.base_registry, *registries)
        self._database = CollectorRegistry(auto_describe=False)
        self._database.register(numbers)
        self._metrics = Cached(self._make_metrics)
        self._status = Cached(self._make_status)

    @property
    def routes(self) -> list[Route]:
        """The paths."""
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
        """Answer as XNovu did: 503 only when this process is about to go."""
        return JSONResponse(self._brief(), 503 if self._condition.stopping else 200)

    async def livez(self, _: Request) -> Response:
        """Answer: that is all liveness is."""
        return JSONResponse({"status": "ok"})

    async def startupz(self, _: Request) -> Response:
        """Say whether every part has said how it is."""
        awaited = sorted(self._condition.not_reported_yet)
        if self._condition.started:
            return JSONResponse({"status": "started"})
        return JSONResponse({"status": "starting", "waiting_for": awaited}, 503)

    async def readyz(self, _: Request) -> Response:
        """Say whether all works, or name the parts that do not."""
        condition = self._condition
        if condition.ready:
            return JSONResponse({"status": "ready"})
        status = "stopping" if condition.stopping else "not ready" if condition.started else "starting"
        since = {part: outage.since.isoformat() for part, outage in condition.outages.items()}
        told = {
            "status": status,
            "broken": sorted(since),
            "since": since,
            "waiting_for": sorted(condition.not_reported_yet),
        }
        return JSONResponse(told, 503)

    async def status(self, _: Request) -> Response:
        """Show everything there is to know."""
        return JSONResponse(await self._status.get())

    async def detailed(self, _: Request) -> Response:
        """Show /status, and what the process costs."""
        return JSONResponse({**await self._status.get(), "process": process_usage()})

    async def subscriptions(self, _: Request) -> Response:
        """Show how wake-ups reach us, as XNovu showed its subscriptions."""
        numbers = await self._numbers.read()
        return JSONResponse({**status_document.subscriptions(self._condition, numbers), "timestamp": machine_time()})

    async def metrics(self, _: Request) -> Response:
        """Show every metric as Prometheus reads it."""
        return Response(await self._metrics.get(), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    async def _make_metrics(self) -> bytes:
        await self._numbers.read()
        texts = [generate_latest(registry) for registry in (*self._registries, self._database)]
        return b"".join((*texts, self._xnovu()))

    async def _make_status(self) -> dict[str, Any]:
        numbers = await self._numbers.read()
        database = {
            "status": "unhealthy"
            if self._numbers.error or self._numbers.is_stale
            else self._condition.state("postgres"),
            "error": self._numbers.error,
            "numbers_seconds_old": self._numbers.age,
        }
        return {
            **self._brief(),
            **status_document.status(self._condition, numbers, self._enterprises),
            "database": database,
        }

    def _brief(self) -> dict[str, Any]:
        """Return XNovu's four keys."""
        condition = self._condition
        status = "unhealthy" if condition.stopping else "healthy" if condition.ready else "degraded"
        return {"status": status, "uptime": self._uptime, "timestamp": machine_time(), "version": __version__}

    @property
    def _uptime(self) -> float:
        return max(0.001, (datetime.now(UTC) - self._condition.began).total_seconds())

    def _xnovu(self) -> bytes:
        """Return the metrics that XNovu's dashboards read."""
        total, active, reconnecting = status_document.listener_counts(self._condition, self._numbers.known)
        worker = {
            "xnovu_worker_uptime_seconds": self._uptime,
            "xnovu_worker_healthy": float(self._condition.ready),
        }
        values = {
            **(worker if "listener" in self._condition.expected else {}),
            "xnovu_subscriptions_total": total,
            "xnovu_subscriptions_active": active,
            "xnovu_subscriptions_failed": 0,
            "xnovu_subscriptions_reconnecting": reconnecting,
        }
        return generate_latest(
            Families([GaugeMetricFamily(name, "As XNovu.", value=each) for name, each in values.items()])
        )


class Cached(Generic[Made]):
    """What is made once a second at most, however many ask for it."""

    def __init__(self, make: Callable[[], Awaitable[Made]]) -> None:
        self._make = make
        self._made: tuple[float, Made] | None = None
        self._turn = asyncio.Lock()

    async def get(self) -> Made:
        """Return it, made within the last second."""
        async with self._turn:
            if self._made is None or time.monotonic() - self._made[0] >= 1:
                made = await self._make()
                self._made = (time.monotonic(), made)
            return self._made[1]


class Families:
    """Metrics made for one answer."""

    def __init__(self, families: list[GaugeMetricFamily]) -> None:
        self._families = families

    def collect(self) -> list[GaugeMetricFamily]:
        """Return them."""
        return self._families


def machine_time() -> str:
    """Return the time of this machine."""
    return datetime.now(UTC).isoformat()


def process_usage() -> Mapping[str, Any]:
    """Return what this process costs, in bytes and seconds."""
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
