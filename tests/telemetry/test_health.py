"""What is broken, since when, and what a change of it makes known."""

import contextlib
from typing import Any, cast

import pytest
from structlog.testing import capture_logs
from temporalio.service import RPCError, RPCStatusCode

from dispatcher.models.claims import Start
from dispatcher.telemetry import health, metrics
from dispatcher.telemetry.health import PARTS, Condition
from dispatcher.temporal.starter import Starter


def whole() -> Condition:
    """Return a condition in which every part has said that it works."""
    health = Condition()
    for part in PARTS:
        health.whole(part)
    return health


def gauge(part: str) -> float | None:
    return metrics.about.get_sample_value("dispatcher_part_broken", {"part": part})


def test_it_is_ready_once_every_part_has_said_that_it_works():
    health = Condition()
    for part in PARTS:
        assert not health.ready
        assert health.state(part) == "not_initialized"
        health.whole(part)
    assert health.ready
    assert health.awaited == set()


def test_it_starts_also_when_a_part_is_broken_from_the_first_word_on():
    health = Condition()
    health.expect(["listener"])
    health.broken("listener", "a pooler")
    assert (health.started, health.ready, health.state("listener")) == (True, False, "unhealthy")


def test_an_outage_is_told_once_however_often_it_is_said():
    health = whole()
    with capture_logs() as logs:
        for _ in range(3):
            health.broken("temporal", "no answer")
        assert gauge("temporal") == 1
        began = health.outages["temporal"].since
        health.broken("temporal", "still none")
        assert (health.outages["temporal"].since, health.outages["temporal"].reason) == (began, "still none")
        for _ in range(3):
            health.whole("temporal")
    assert [line["event"] for line in logs] == ["outage_began", "outage_over"]
    assert gauge("temporal") == 0
    assert health.ready


def test_one_part_does_not_heal_another():
    health = whole()
    health.broken("novu", "401")
    health.whole("postgres")
    assert list(health.outages) == ["novu"]


def test_a_process_that_stops_is_not_ready():
    health = whole()
    health.stopping = True
    assert not health.ready


def test_a_reason_is_one_short_line_without_secrets():
    health = whole()
    health.broken("postgres", "no\n  postgresql://app:hunter2@db " + "x" * 1000)
    reason = health.outages["postgres"].reason
    assert reason.startswith("no postgresql://app:***@db")
    assert len(reason) <= 300


async def test_a_server_that_starts_some_and_refuses_others_is_one_outage(monkeypatch: pytest.MonkeyPatch):
    told = Condition()
    monkeypatch.setattr(health, "whole", told.whole)
    monkeypatch.setattr(health, "broken", told.broken)
    starter = Mixed(cast("Any", None), "queue")
    with capture_logs() as logs:
        for number in range(8):
            with contextlib.suppress(RPCError):
                await starter.start(Start(str(number), [number], solo=True))
    assert [line["event"] for line in logs] == ["outage_began"]


class Mixed(Starter):
    """Every second start is refused."""

    async def _start(self, start: Start) -> str:
        if int(start.workflow_id) % 2:
            raise RPCError("too many", RPCStatusCode.RESOURCE_EXHAUSTED, b"")
        return "started"
