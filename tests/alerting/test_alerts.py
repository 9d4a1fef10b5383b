"""Alerts of this process, sent to a fake Sentry server: their number, their grouping and their content."""

import json
import logging
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import structlog
from pydantic import SecretStr

from dispatcher.alerting import alerts
from dispatcher.alerting.alerts import BURST, FLUSH_SECONDS, AlertThrottle
from dispatcher.alerting.sentry import MAX_QUEUED_EVENTS
from dispatcher.config.secret_values import secret_values
from dispatcher.config.settings import Settings
from dispatcher.models.errors import Unreachable
from dispatcher.telemetry import logs
from dispatcher.telemetry.health import ProcessHealth
from dispatcher.telemetry.redaction import process_secrets
from tests.support import kent_server
from tests.support.kent_server import Kent, counted

URL = "postgresql://app:marker-of-the-password@db.example.com/shop"
KEY = "marker-of-the-key"
PAYLOAD = "marker-of-the-payload"
log = logs.get_logger("test")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kent]:
    with kent_server.running(tmp_path_factory.mktemp("kent")) as kent:
        yield kent


@pytest.fixture
def kent(server: Kent) -> Kent:
    server.forget()
    return server


@pytest.fixture
def quiet(tmp_path: Path) -> Iterator[None]:
    """Configure logs like `run`, with almost no output, and restore everything afterwards."""
    root, config = logging.getLogger(), structlog.get_config()
    before = root.handlers[:], root.level
    with (tmp_path / "log").open("w") as stream:
        logs.configure("json", "critical", stream=stream)
        yield
    root.handlers[:], root.level = before
    structlog.configure(**config)


pytestmark = pytest.mark.usefixtures("quiet")


def fails(values: dict[str, str]) -> None:
    """Raise with text that must not leave: in the message, in the cause's message and in a variable of the stack."""
    local = values["title"]
    try:
        int(local.join("xx"))
    except ValueError as error:
        raise RuntimeError(f"{values} {KEY}") from error


def telling(kent: Kent, **settings: Any):
    url, dsn = SecretStr(URL), SecretStr(kent.dsn)
    found = Settings(database_url=url, novu_secret_key=SecretStr(KEY), sentry_dsn=dsn, **settings)
    process_secrets.set(secret_values(found))  # as each command does with its settings
    return alerts.alerting(found, "node-1")


@pytest.fixture(autouse=True)
def _secrets_as_before() -> Iterator[None]:
    yield
    process_secrets.set([])


async def test_f161_ten_thousand_equal_errors_make_few_alerts_and_all_are_counted(kent: Kent):
    async with telling(kent):
        for number in range(10_000):
            try:
                fails({"title": str(number)})
            except RuntimeError:
                log.exception("dispatch_failed")
            log.warning("dead_letter", notification_id=number, cause=f"recipients: {number} are too many")
    bugs, dead = kent.events_of("dispatch_failed"), kent.events_of("dead_letter")
    assert BURST <= len(bugs) <= 10
    assert BURST <= len(dead) <= 10
    assert counted(bugs) == counted(dead) == 10_000


async def test_suppressed_alerts_are_sent_after_a_sweep(kent: Kent, monkeypatch: pytest.MonkeyPatch):
    async with telling(kent):
        for number in range(100):
            log.warning("dead_letter", notification_id=number, cause="http_400")
        assert alerts.flush_counts(well=False) is None, "it is too early"
        monkeypatch.setattr(alerts, "REFILL_SECONDS", 1e-9)
        alerts.flush_counts(well=False)
        log.warning("dead_letter", notification_id=100, cause="http_400")
    told = kent.events_of("dead_letter")
    assert len(told) == BURST + 2
    assert counted(told) == 101


@pytest.mark.parametrize("a_minute", [60, 600, 10_000])
def test_alerts_are_at_most_ten_a_minute_and_all_are_counted(a_minute: int):
    bucket, told = AlertThrottle(), list[float]()
    for number in range(5 * a_minute):
        if bucket.take_token(1000 + number * 60 / a_minute):
            told.append(number * 60 / a_minute)
    for begin in told:
        assert sum(begin <= at < begin + 60 for at in told) + 1 <= 10  # and the last word at the end


async def test_fingerprint_depends_on_the_event_and_not_on_the_row(kent: Kent):
    async with telling(kent):
        for number in (1, 2):
            log.warning("dead_letter", notification_id=number, cause=f"workflow 'w-{number}' is deactivated")
            log.warning("dead_letter", notification_id=number, cause=f"payload takes {number} bytes")
        for cause in ("http_400", "http_422"):
            log.warning("dead_letter", notification_id=3, cause=cause)
    prints = [tuple(event["fingerprint"]) for event in kent.events_of("dead_letter")]
    assert len(prints) == 6
    assert len(set(prints)) == 4
    assert kent.events_of("dead_letter")[0]["contexts"]["dispatcher"]["notification_id"] == 1


async def test_outage_makes_one_alert_and_its_end_another_without_log_lines_between(kent: Kent):
    condition = ProcessHealth()
    async with telling(kent):
        for _ in range(50):
            condition.report_failure("temporal", "no answer")
        for _ in range(50):
            condition.report_ok("temporal")
    began, over = kent.items("event")
    assert (began["tags"]["kind"], began["level"], began["tags"]["part"]) == ("outage_began", "error", "temporal")
    assert began["message"] == "temporal has failed: no answer"
    assert (over["tags"]["kind"], over["level"]) == ("outage_over", "info")
    assert over["contexts"]["dispatcher"]["seconds"] >= 0
    assert began["fingerprint"] != over["fingerprint"]


async def test_alert_names_its_process_and_release(kent: Kent, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HEROKU_SLUG_COMMIT", "c0ffee")
    monkeypatch.setenv("DYNO", "worker.1")
    async with telling(kent, sentry_environment="staging"):
        ProcessHealth().report_failure("novu", "HTTP 401")
    [event] = kent.items("event")
    assert (event["release"], event["environment"], event["server_name"]) == ("c0ffee", "staging", "worker.1")
    assert event["tags"]["node"] == "node-1"
    async with telling(kent, sentry_release="mine@1"):
        ProcessHealth().report_failure("novu", "HTTP 401")
    assert kent.items("event")[1]["release"] == "mine@1"


async def test_s09_alert_has_no_content_of_a_notification_and_no_secret(kent: Kent, monkeypatch: pytest.MonkeyPatch):
    payload = {"title": PAYLOAD}
    monkeypatch.setenv("PGPASSWORD", "marker-of-libpq")
    environment = {
        "TEMPORAL_API_KEY": "marker-of-temporal",
        "TEMPORAL_TLS_CLIENT_KEY_DATA": "-----BEGIN\nmarker-of-tls\n",
    }
    monkeypatch.setattr(Settings, "temporal_environment", environment)

    async with telling(kent, http_token=SecretStr("marker-of-the-token")):
        try:
            fails(payload)
        except RuntimeError:
            log.exception("activity_failed", payload=payload, key=KEY)
            logging.getLogger("a.library").exception("of %s", payload)
        ProcessHealth().report_failure(
            "postgres", f"no way to {URL} with marker-of-the-token, and marker-of-the-password again"
        )
        ProcessHealth().report_failure(
            "temporal", "neither marker-of-libpq nor marker-of-temporal nor marker-of-tls was taken"
        )
        log.warning("dead_letter", notification_id=1, cause="http_400", reason=PAYLOAD, recipient=PAYLOAD)
    assert kent.kinds == ["activity_failed", "library", "outage_began", "outage_began", "dead_letter"]
    [bug] = kent.events_of("activity_failed")
    [inner, outer] = bug["exception"]["values"]
    assert (inner["type"], outer["type"]) == ("ValueError", "RuntimeError")
    assert outer["stacktrace"]["frames"][-1]["function"] == "fails"
    assert "vars" not in json.dumps(bug)
    received = kent.received
    assert "outage_began" in received, "the log has what was received"
    others = ("marker-of-libpq", "marker-of-temporal", "marker-of-tls")
    markers = (PAYLOAD, KEY, "marker-of-the-password", "marker-of-the-token", *others)
    assert [marker for marker in markers if marker in received] == []


async def test_lost_database_is_an_outage_and_not_an_unexpected_error(kent: Kent):
    async with telling(kent):
        try:
            psycopg.connect("host=127.0.0.1 port=1")
        except psycopg.OperationalError:
            log.exception("activity_failed")
        log.error("of_no_kind")
        log.error("novu_gate_shut", reason="HTTP 401")
    assert kent.items("event") == []


async def test_alert_that_raises_is_dropped_alone(kent: Kent):
    class Odd:
        def __str__(self) -> str:
            raise RuntimeError("no text")

    async with telling(kent):
        log.warning("dead_letter", cause=Odd())
        log.warning("dead_letter", cause="http_400")
    assert [event["tags"]["cause"] for event in kent.items("event")] == ["http_400"]


async def test_error_that_ends_the_process_is_reported_with_text_only_if_it_is_ours(kent: Kent):
    for error in (Unreachable("TEMPORAL_ADDRESS: nobody there"), ExceptionGroup("a", [KeyError(PAYLOAD)])):
        with pytest.raises(type(error)):
            async with telling(kent):
                raise error
    ours, other = kent.events_of("ended")
    assert (ours["level"], ours["exception"]["values"][-1]["value"]) == ("fatal", "TEMPORAL_ADDRESS: nobody there")
    assert other["fingerprint"][:2] == ["ended", "KeyError"]
    assert PAYLOAD not in kent.received


async def test_malformed_dsn_switches_only_alerts_off(kent: Kent):
    settings = Settings(database_url=SecretStr(URL), sentry_dsn=SecretStr("https://nobody.example.com"))
    async with alerts.alerting(settings, "node-1"):
        ProcessHealth().report_failure("novu", "HTTP 401")
    assert kent.items("event") == []


async def test_check_ins_stay_below_sentrys_limit(kent: Kent, monkeypatch: pytest.MonkeyPatch):
    now = [1000.0]
    monkeypatch.setattr(alerts.time, "monotonic", lambda: now[0])
    async with telling(kent):
        alerts.flush_counts(well=False)
        for _ in range(20):
            alerts.flush_counts(well=True)
            now[0] += 10
    check_ins = kent.items("check_in")
    assert len(check_ins) == 4, "in 200 s"
    assert {one["monitor_slug"] for one in check_ins} == {"dispatcher-sweep"}
    assert check_ins[0]["monitor_config"]["schedule"] == {"type": "interval", "value": 1, "unit": "minute"}
    assert (check_ins[0]["status"], check_ins[0]["environment"]) == ("ok", "production")
    assert kent.items("event") == []


async def test_f160_undelivered_alerts_beyond_a_hundred_are_dropped_without_waiting():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        dsn = SecretStr(f"http://public@127.0.0.1:{silent.getsockname()[1]}/1")
        async with alerts.alerting(Settings(database_url=SecretStr(URL), sentry_dsn=dsn), "node-1"):
            for number in range(300):
                log.warning("dead_letter", notification_id=number, cause=f"http_{number}")
            client: Any = alerts.process_alerts._client  # pyright: ignore[reportPrivateUsage]
            assert client.transport._worker.full()
            assert client.transport._worker._queue.qsize() == MAX_QUEUED_EVENTS == 100
            began = time.monotonic()
        assert FLUSH_SECONDS <= time.monotonic() - began < 4 * FLUSH_SECONDS
