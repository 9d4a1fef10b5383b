"""Logs: one line per event, the agreed keys, no secrets, and a program that outlives its reader."""

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.telemetry import logs
from dispatcher.telemetry.redaction import UNPRINTABLE, redact, redact_text

SECRET = "hunter2hunter2"
FORMATS = ["json", "logfmt", "console"]


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def lines(style: str = "json", level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    logs.configure(style, level, stream=stream)
    return stream


def only(stream: io.StringIO) -> dict[str, Any]:
    [line] = stream.getvalue().splitlines()
    return json.loads(line)


def test_line_has_xnovus_keys_and_the_context(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYNO", "dispatcher.1")
    stream = lines()
    structlog.contextvars.bind_contextvars(node="n1")
    logs.get_logger("claimer").info("claimed", notification_id=7)
    event = only(stream)
    assert event.pop("timestamp").endswith("Z")
    assert event == {
        "level": "info",
        "component": "claimer",
        "event": "claimed",
        "node": "n1",
        "dyno": "dispatcher.1",
        "notification_id": 7,
    }


def test_auto_format_is_json_without_a_terminal() -> None:
    stream = lines("auto")
    logs.get_logger("x").info("hello")
    assert only(stream)["event"] == "hello"


def test_logfmt_is_written_on_request() -> None:
    stream = lines("logfmt")
    logs.get_logger("x").info("claimed", rows=3, why="two words", **{"odd key": 1})
    assert 'level=info component=x event=claimed rows=3 why="two words" odd_key=1' in stream.getvalue()


def test_logger_made_before_configure_follows_it() -> None:
    log = logs.get_logger("early")
    stream = lines(level="warning")
    log.info("quiet")
    log.warning("loud")
    assert only(stream)["event"] == "loud"


def test_library_lines_use_the_same_pipeline() -> None:
    stream = lines()
    logging.getLogger("temporalio.worker").warning("poll of %s failed", f"postgres://u:{SECRET}@h/x")
    event = only(stream)
    assert (event["component"], event["event"]) == ("temporalio.worker", "library")
    assert event["message"] == "poll of postgres://u:***@h/x failed"


@pytest.mark.parametrize("level", ["debug", "info"])
def test_httpx_logs_no_requests(level: str) -> None:
    stream = lines(level=level)
    logging.getLogger("httpx").info("HTTP Request: POST")
    logging.getLogger("httpcore.http11").debug("send_request_headers")
    assert stream.getvalue() == ""


@pytest.mark.parametrize("style", FORMATS)
def test_exception_is_one_field_of_one_line(style: str) -> None:
    stream = lines(style)
    try:
        try:
            {}["inner"]
        except KeyError as error:
            raise ExceptionGroup("many", [ValueError(f"password={SECRET}\nmore")]) from error
    except ExceptionGroup:
        logs.get_logger("x").exception("failed")
    [line] = stream.getvalue().splitlines()
    assert SECRET not in line
    for word in ("ExceptionGroup: many", "ValueError: password=***", "KeyError: 'inner'", "test_logs.py:", "failed"):
        assert word in line


@pytest.mark.parametrize("style", FORMATS)
def test_row_quoted_by_postgres_is_hidden(style: str) -> None:
    stream = lines(style)
    logs.get_logger("x").error("refused", error=f"null value\nDETAIL:  Failing row contains (1, {SECRET},\n{SECRET}).")
    assert SECRET not in stream.getvalue()
    assert "null value" in stream.getvalue()
    assert "DETAIL: ***" in stream.getvalue()


@pytest.mark.parametrize("style", FORMATS)
def test_long_events_make_bounded_lines(style: str) -> None:
    stream = lines(style)
    logs.get_logger("x").info("big", **{f"key{number}": '"\x01ü\\' * 5_000 for number in range(60)})
    logs.get_logger("x").info("e" * 100_000)
    logs.get_logger("x").info("a little too big", **dict.fromkeys("abc", "x" * 3_900))
    for line in stream.getvalue().splitlines():
        assert len(line.encode()) <= logs.MAX_LINE_CHARS
    assert len(stream.getvalue().splitlines()) == 3


@pytest.mark.parametrize("style", FORMATS)
@given(text=st.text(), key=st.text(min_size=1))
def test_any_text_makes_exactly_one_printable_line(style: str, text: str, key: str) -> None:
    stream = lines(style)
    logs.get_logger("x").info(text.replace("%", ""), value=text, nested={key: [text]}, **{f"k{key}": text})
    written = stream.getvalue()
    assert written.endswith("\n")
    assert not UNPRINTABLE.search(written[:-1])
    assert len(written.splitlines()) == 1


def test_unwritable_value_loses_only_its_line() -> None:
    class BrokenStream:
        def __str__(self) -> str:
            raise RuntimeError

    stream = lines()
    logs.get_logger("x").info("broken", value=BrokenStream())
    logs.get_logger("x").info("after")
    assert only(stream)["event"] == "after"


def test_closed_stream_does_not_raise() -> None:
    stream = lines()
    stream.close()
    logs.get_logger("x").info("nobody hears this")
    logging.getLogger("other").error("nor this")


def test_program_survives_its_log_reader() -> None:
    program = (
        "import sys; from dispatcher.telemetry import logs; logs.configure('json', 'info', stream=sys.stdout)\n"
        "log = logs.get_logger('x')\n"
        "for number in range(20_000): log.info('event', number=number)\n"
        "print('alive', file=sys.stderr); import os; os._exit(0)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.readline()
        child.stdout.close()
        assert child.stderr.read() == b"alive\n"
        assert child.wait(10) == 0


@pytest.mark.parametrize(
    "key",
    [
        *("payload", "overrides", "password", "DATABASE_URL", "novu_secret_key", "apiKey", "Api-Key"),
        *("Authorization", "access_token", "conninfo", "set-cookie", "SENTRY_DSN"),
    ],
)
def test_keys_that_look_like_secrets_are_hidden(key: str) -> None:
    assert redact({key: SECRET, "deep": [{key: {"inner": SECRET}}]}) == {key: "***", "deep": [{key: "***"}]}


@pytest.mark.parametrize("key", ["workflow_key", "idempotency_key", "notification_id", "event", "workflow_id"])
def test_similar_but_harmless_keys_stay(key: str) -> None:
    assert redact({key: "word"}) == {key: "word"}


@given(st.text("abc123?#@:/&=.", min_size=1), st.sampled_from(["postgres", "postgresql+psycopg", "https", "redis"]))
def test_password_in_any_url_is_hidden(password: str, scheme: str) -> None:
    text = redact_text(f"cannot reach {scheme}://user:Q{password}Q@host/db now")
    assert "Q" not in text
    assert text == f"cannot reach {scheme}://user:***@host/db now"


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: ApiKey {}",
        "got Bearer {} back",
        "password={} host=x",
        "password='{} x' host=x",
        '{{"apiKey": "{}"}}',
        "NOVU_SECRET_KEY={}",
        "secret: {}",
    ],
)
def test_credentials_inside_text_are_hidden(text: str) -> None:
    assert SECRET not in redact_text(text.format(SECRET))
