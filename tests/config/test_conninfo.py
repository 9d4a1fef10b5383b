"""Database URLs: TLS, spellings of other clients, poolers; no error repeats a password."""

import re

import psycopg.conninfo
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from dispatcher.config.conninfo import conninfo, masked, pooler_hint
from dispatcher.models.errors import ConfigurationError

SECRET = "hunter2hunter2"


URL = f"postgres://app:{SECRET}@db.example.com:5432/shop"


def parts(url: str) -> dict[str, str]:
    return {name: str(value) for name, value in psycopg.conninfo.conninfo_to_dict(conninfo(url)).items()}


@pytest.mark.parametrize(
    ("url", "mode"),
    [
        ("postgres://u:p@db.example.com/x", "require"),
        ("postgres://u:p@10.0.0.5/x", "require"),
        ("postgres://u:p@db.example.com/x?sslmode=disable", "disable"),
        ("postgres://u:p@db.example.com/x?sslmode=verify-full", "verify-full"),
        ("postgres://u:p@db.example.com/x?sslmode=no-verify", "require"),
        ("postgres://u:p@localhost/x?ssl=true", "require"),
        ("postgres://u:p@localhost/x", None),
        ("postgres://u:p@127.0.0.9/x", None),
        ("postgres://u:p@[::1]/x", None),
        ("postgres:///x?host=/tmp", None),
        ("postgres://u:p@%2Ftmp/x", None),
        ("host=db.example.com dbname=x", "require"),
    ],
)
def test_remote_hosts_need_tls_unless_the_url_says_otherwise(url: str, mode: str | None) -> None:
    assert parts(url).get("sslmode") == mode


def test_pgsslmode_overrides_our_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSSLMODE", "disable")
    assert "sslmode" not in parts(URL)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg", "postgresql+asyncpg", "Postgres"])
def test_spellings_of_other_clients_are_translated(scheme: str) -> None:
    url = f"{scheme}://u:p%40%2F@h:5433/x?pgbouncer=true&connection_limit=5&schema=public&connect_timeout=9"
    got = parts(url)
    assert (got["user"], got["password"], got["host"], got["port"], got["dbname"]) == ("u", "p@/", "h", "5433", "x")
    assert (got["connect_timeout"], got["tcp_user_timeout"], got["keepalives_idle"]) == ("9", "9000", "5")
    assert not {"pgbouncer", "connection_limit", "schema"} & set(got)


def test_application_name_is_ours_unless_the_url_has_one() -> None:
    assert "application_name=listener" in conninfo(URL, application_name="listener")
    assert parts(f"{URL}?application_name=shop")["application_name"] == "shop"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "foo",
        "mysql://u:p@h/x",
        "postgres://",
        "postgres://h:port/x",
        f"postgres://u:{SECRET}@{SECRET}@h/x",
        f"postgres://u:a/{SECRET}@h/x",
        f"postgres://u:{SECRET}@db..example.com/x",
        f"postgres://u:{SECRET}@{'x' * 64}.example.com/x",
    ],
)
def test_wrong_url_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        conninfo(url)
    assert str(caught.value).startswith("DATABASE_URL is not a Postgres URL: expected postgres://user:password@host")
    assert SECRET not in str(caught.value)
    assert SECRET not in masked(url)


@given(
    user=st.text("abc%20.", min_size=1).map(lambda text: re.sub(r"%(?!20)", "", text) or "u"),
    password=st.text("xyz?#&=+*~!", min_size=1),
    host=st.sampled_from(["h", "db.example.com", "127.0.0.1", "[::1]", "%2Ftmp"]),
    query=st.lists(st.sampled_from(["sslmode=prefer", "pgbouncer=true", "schema=a", "x=%zz", "y", "ssl=0"])).map(
        "&".join
    ),
)
def test_conninfo_keeps_the_password_and_hides_it(user: str, password: str, host: str, query: str) -> None:
    url = f"postgres://{user}:Q{password}Q@{host}:5432/shop?{query}"
    assert parts(url)["password"] == f"Q{password}Q"
    assert "Q" not in masked(url)


@given(st.text())
def test_any_text_is_a_url_or_a_configuration_error(text: str) -> None:
    for read in (conninfo, pooler_hint):
        try:
            read(f"postgres://{text}")
        except ConfigurationError:
            continue
    masked(text)


@pytest.mark.parametrize(
    ("url", "pooled"),
    [
        (URL, False),
        (f"{URL}?pgbouncer=true", True),
        ("postgres://u:p@h:6543/x", True),
        ("postgres://u:p@h:6432/x", True),
        ("postgres://u:p@ep-cool-pooler.eu.aws.neon.tech/x", True),
        ("postgres://u:p@aws-0.pooler.supabase.com:5432/x", True),
    ],
)
def test_poolers_are_recognised_by_host_and_port(url: str, *, pooled: bool) -> None:
    hint = pooler_hint(SecretStr(url))
    assert (hint is not None) == pooled
    assert SECRET not in str(hint)
