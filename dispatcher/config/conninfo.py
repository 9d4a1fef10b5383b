"""Turns the Postgres URLs that platforms give out into connection strings for libpq.

Spellings of other clients are translated, and parameters that libpq does not know are dropped. A long-lived connection
needs TLS to remote hosts, keepalives and a short connect timeout; these are added unless the URL sets them. Opens no
connection. No error here repeats any part of the URL, because that part may be the password.
"""

import ipaddress
import os
import re
from urllib.parse import unquote

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Conninfo
from pydantic import SecretStr

from dispatcher.models.errors import ConfigurationError

# A peer that no longer answers is detected after 5 + 3 * 2 s on an idle connection, after 9 s if data was sent.
DEFAULTS = {
    "keepalives": "1",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "9000",
    "connect_timeout": "5",
    "client_encoding": "UTF8",  # also for databases with another encoding
}
URL_EXAMPLE = "postgres://user:password@host:5432/database"
_SCHEME = re.compile(r"postgres(?:ql)?(?:\+\w+)?", re.IGNORECASE)
# The values that node-postgres and JDBC use (`ssl`, `no-verify`), and the `sslmode` of libpq that means the same.
_SSLMODE_OF = {"true": "require", "1": "require", "no-verify": "require", "false": "disable", "0": "disable"}
_POOLER_PORTS = {"6543", "6432"}


def conninfo(url: str | SecretStr, *, application_name: str = "dispatcher", variable: str = "DATABASE_URL") -> str:
    """Return the libpq connection string for `url`; ConfigurationError that names `variable` for an invalid URL."""
    parameters = _parameters(_text(url), variable)
    if "PGSSLMODE" not in os.environ and any(map(_is_remote, _hosts(parameters))):
        parameters = {"sslmode": "require"} | parameters
    return make_conninfo(**{**DEFAULTS, "application_name": application_name, **parameters})


def masked(url: str | SecretStr) -> str:
    """Return user, host, port and database of `url` for display, without the password and other parameters."""
    try:
        parameters = _parameters(_text(url), "")
    except ConfigurationError:
        return "***"
    user = parameters.get("user", "")
    password = ":***" if "password" in parameters else ""
    port = f":{parameters['port']}" if "port" in parameters else ""
    host = ",".join(_hosts(parameters))
    return f"postgres://{user}{password}{'@' if user or password else ''}{host}{port}/{parameters.get('dbname', '')}"


def pooler_hint(url: str | SecretStr) -> str | None:
    """Return why `url` looks like a connection pooler, or None. A guess for advice; only the canary proves it."""
    text = _text(url)
    parameters = _parameters(text, "DATABASE_URL")
    if "pgbouncer=true" in text.lower():
        return "the URL says pgbouncer=true"
    if _POOLER_PORTS & set(parameters.get("port", "").split(",")):
        return f"port {parameters['port']} is usually a transaction pooler"
    for host in _hosts(parameters):
        if "-pooler." in host or host.endswith(".pooler.supabase.com"):
            return f"host {host} is a connection pooler"
    return None


def _text(url: str | SecretStr) -> str:
    return (url.get_secret_value() if isinstance(url, SecretStr) else url).strip()


def _parameters(text: str, variable: str) -> dict[str, str]:
    try:
        found = conninfo_to_dict(_for_libpq(text) if "://" in text else text)
    except (ProgrammingError, ValueError):  # ValueError: a NUL byte, or no Postgres URL
        found = {}
    parameters = {name: str(value) for name, value in found.items() if value not in {None, ""}}
    if not parameters or not re.fullmatch(r"[0-9,]*", parameters.get("port", "")) or not _resolvable(parameters):
        raise ConfigurationError(
            f"{variable} is not a Postgres URL: expected {URL_EXAMPLE}, with special characters of the password"
            " percent-encoded"
        )
    return parameters


def _for_libpq(url: str) -> str:
    """Return the URL of another client, rewritten for libpq; ValueError if it cannot be a Postgres URL."""
    scheme, rest = url.split("://", 1)
    # Like libpq: the user part ends at the first @ before any slash, so a ? before that @ belongs to the password.
    user = re.match(r"[^/@]*@", rest)
    start = user.end() if user else 0
    base, _, query = rest[start:].partition("?")
    if not _SCHEME.fullmatch(scheme) or "@" in base:
        raise ValueError  # an unescaped @ or / in the password: libpq would read part of the password as the host name
    pairs = [pair.split("=", 1) for pair in query.split("&") if "=" in pair]
    known = {name: value for name, value in map(_translated, pairs) if name in _known_names()}
    return f"postgresql://{rest[:start]}{base}?" + "&".join(f"{name}={value}" for name, value in known.items())


def _translated(pair: list[str]) -> tuple[str, str]:
    name, value = unquote(pair[0]), pair[1]
    if name in {"ssl", "sslmode"}:
        return "sslmode", _SSLMODE_OF.get(value.lower(), value)
    return name, value


def _known_names() -> set[str]:
    """Return the parameters of the libpq in use. A parameter that it does not know would make every connection fail."""
    return {option.keyword.decode() for option in Conninfo.get_defaults()}


def _hosts(parameters: dict[str, str]) -> list[str]:
    named = parameters.get("host") or parameters.get("hostaddr") or os.environ.get("PGHOST", "")
    return [host for host in named.split(",") if host]


def _resolvable(parameters: dict[str, str]) -> bool:
    """Return whether every host is a possible name. An empty or too long label would raise in the name lookup."""
    try:
        return all(host.startswith(("/", "@")) or host.encode("idna") for host in _hosts(parameters))
    except UnicodeError:
        return False


def _is_remote(host: str) -> bool:
    if host.startswith(("/", "@")) or host.lower() == "localhost":
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True
