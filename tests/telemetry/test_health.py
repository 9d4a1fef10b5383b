"""Outages of components: since when, and what is logged when one begins or ends."""

import contextlib
from typing import Any, cast

import pytest
from structlog.testing import capture_logs
from temporalio.service import RPCError, RPCStatusCode

from dispatcher.models.claims import WorkflowStart
from dispatcher.models.workflow_contract import TaskQueues
from dispatcher.telemetry import health, metrics
from dispatcher.telemetry.health import COMPONENTS, ProcessHealth
from dispatcher.temporal.starter import WorkflowStarter


def healthy() -> ProcessHealth:
    """Return a condition in which every part has said that it works."""
    health = ProcessHealth()
    for part in COMPONENTS:
        health.report_ok(part)
    return health


def gauge(part: str) -> float | None:
    return metrics.base_registry.get_sample_value("dispatcher_part_broken", {"part": part})


def test_process_is_ready_once_every_component_reported_ok():
    health = ProcessHealth()
    for part in COMPONENTS:
        assert not health.ready
        assert health.state(part) == "not_initialized"
        health.report_ok(part)
    assert health.ready
    assert health.not_reported_yet == set()


def test_process_starts_with_a_component_that_failed_first():
    health = ProcessHealth()
    health.expect_components(["listener"])
    health.report_failure("listener", "a pooler")
    assert (health.started, health.ready, health.state("listener")) == (True, False, "unhealthy")


def test_outage_is_logged_once_for_repeated_reports():
    health = healthy()
    with capture_logs() as logs:
        for _ in range(3):
            health.report_failure("temporal", "no answer")
        assert gauge("temporal") == 1
        began = health.outages["temporal"].since
        health.report_failure("temporal", "still none")
        assert (health.outages["temporal"].since, health.outages["temporal"].reason) == (began, "still none")
        for _ in range(3):
            health.report_ok("temporal")
    assert [line["event"] for line in logs] == ["outage_began", "outage_over"]
    assert gauge("temporal") == 0
    assert health.ready


def test_component_does_not_end_another_ones_outage():
    health = healthy()
    health.report_failure("novu", "401")
    health.report_ok("postgres")
    assert list(health.outages) == ["novu"]


def test_stopping_process_is_not_ready():
    health = healthy()
    health.stopping = True
    assert not health.ready


def test_outage_reason_is_one_short_line_without_secrets():
    health = healthy()
    health.report_failure("postgres", "no\n  postgresql://app:hunter2@db " + "x" * 1000)
    reason = health.outages["postgres"].reason
    assert reason.startswith("no postgresql://app:***@db")
    assert len(reason) <= 300


async def test_partly_refusing_temporal_is_one_outage(monkeypatch: pytest.MonkeyPatch):
    told = ProcessHealth()
    monkeypatch.setattr(health, "report_ok", told.report_ok)
    monkeypatch.setattr(health, "report_failure", told.report_failure)
    starter = MixedStarter(cast("Any", None), TaskQueues("queue-0", "queue"))
    with capture_logs() as logs:
        for number in range(8):
            with contextlib.suppress(RPCError):
                await starter.start(WorkflowStart(str(number), [number], first_try=True))
    assert [line["event"] for line in logs] == ["outage_began"]


class MixedStarter(WorkflowStarter):
    """Every second start is refused."""

    async def _start(self, start: WorkflowStart) -> str:
        if int(start.workflow_id) % 2:
            raise RPCError("too many", RPCStatusCode.RESOURCE_EXHAUSTED, b"")
        return "started"
