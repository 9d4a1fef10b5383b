"""Secrets are recognized by their value, in every form, wherever another program repeats them."""

import base64
import io
import json
import logging
from collections.abc import Iterator
from urllib.parse import quote

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from dispatcher.config.secret_values import secret_values
from dispatcher.config.settings import Settings
from dispatcher.telemetry import logs
from dispatcher.telemetry.health import one_line_reason
from dispatcher.telemetry.redaction import MAX_TEXT_CHARS, SecretValues, process_secrets, redact, redact_text

SECRET = 'qu"x/7 päss+word'
FORMS = [
    SECRET,
    json.dumps(SECRET)[1:-1],
    json.dumps(SECRET, ensure_ascii=False)[1:-1],
    quote(SECRET),
    quote(SECRET, safe=""),
    base64.b64encode(SECRET.encode()).decode(),
]


@pytest.fixture(autouse=True)
def _known() -> Iterator[None]:
    process_secrets.set([SECRET])
    yield
    process_secrets.set([])


@pytest.mark.parametrize("form", FORMS)
def test_f222_value_is_hidden_in_every_form(form: str):
    assert redact_text(f"it said {form}, twice {form}") in ("it said ***, twice ***", "it said ***=, twice ***=")
    assert redact({"said": [f"<{form}>"], "raised": {"by": form}})["said"][0].startswith("<***")
    assert one_line_reason(f"it said {form}").startswith("it said ***")


@pytest.mark.parametrize("offset", range(-len(SECRET), 1))
def test_f222_value_at_the_cut_is_not_halved(offset: int):
    text = redact_text("x" * (MAX_TEXT_CHARS + offset) + SECRET)
    assert text.strip("x…") in ("***", "**", "*", "")


@given(
    st.lists(st.text(st.characters(codec="utf-8"), min_size=9, max_size=20), min_size=1, max_size=4),
    st.text(max_size=9),
)
def test_f222_no_given_secret_remains(secrets: list[str], between: str):
    values = SecretValues()
    values.set(secrets)
    hidden = values.hide(between.join(secrets))
    assert not any(secret in hidden for secret in secrets)


@pytest.mark.parametrize("style", ["json", "logfmt", "console"])
def test_f222_log_of_a_library_and_of_ours_hides_the_value(style: str):
    stream = io.StringIO()
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
    try:
        logs.configure(style, "info", stream=stream)
        logging.getLogger("library").warning("header %s", SECRET)
        error = ValueError(f"refused {SECRET}")
        logs.get_logger("here").error("it_failed", answer={"text": [SECRET]}, exc_info=error)
    finally:
        logging.getLogger().handlers[:] = handlers
        logging.getLogger().setLevel(level)
        structlog.reset_defaults()
    text = stream.getvalue()
    assert text.count("***") == 3
    assert not any(form in text for form in FORMS)


def test_f222_every_secret_of_the_settings_is_known(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PGPASSWORD", "password-of-libpq")
    settings = Settings(
        database_url=SecretStr("postgres://me:pass%2Fword-1@localhost/x"),
        listen_database_url=SecretStr("postgres://me:password-two@localhost/x"),
        novu_secret_key=SecretStr("key-of-novu"),
        http_token=SecretStr("token-of-the-port-0123"),
        sentry_dsn=SecretStr("https://key-of-sentry@localhost/1"),
    )
    assert set(secret_values(settings)) == {
        "password-of-libpq",
        "pass/word-1",
        "password-two",
        "key-of-novu",
        "token-of-the-port-0123",
        "https://key-of-sentry@localhost/1",
    }


def test_short_password_is_no_secret_value():
    assert secret_values(Settings(database_url=SecretStr("postgres://me:postgres@localhost/x"))) == []
