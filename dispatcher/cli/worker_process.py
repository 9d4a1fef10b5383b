"""Waits for the background process, stops it, and reads the pages of its health port."""

import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from subprocess import Popen

    from dispatcher.cli.pidfile import PidFile

START_SECONDS, STOP_SECONDS = 30.0, 30.0
PROGRESS_SECONDS = 5.0
"""How often a slow stop is reported."""
POLL_SECONDS = 0.1
HTTP_TIMEOUT_SECONDS = 5.0
PUBLIC_PAGES = ("/health", "/readyz")
"""The pages that need no token."""
PAGES = (*PUBLIC_PAGES, "/health/subscriptions", "/health/detailed")
LOG_TAIL_BYTES = 2000


def health_port_address(env_file: Path, port: int | None) -> tuple[str, int]:
    """Return host and port of the health port; `port` replaces the setting."""
    from dispatcher.cli.options import health_address

    host, configured = health_address(env_file)
    return host, configured if port is None else port


def fetch_page(page: str, env_file: Path, port: int | None) -> tuple[int, str]:
    """Return HTTP status and text of a page. Sends the token only for pages that need it. Raises as `fetch` does."""
    from dispatcher.cli.options import fetch, setting

    token = None if page in PUBLIC_PAGES else setting("DISPATCHER_HTTP_TOKEN", env_file)
    return fetch(*health_port_address(env_file, port), page, HTTP_TIMEOUT_SECONDS, token)


def parse_document(page: str, text: str) -> dict[str, Any]:
    """Return the JSON object of a page. Raises CheckFailed if it is none, because another program answers there."""
    from dispatcher.models.errors import CheckFailed

    with suppress(ValueError):
        if isinstance(document := json.loads(text), dict):
            return document
    raise CheckFailed(f"{page}: this is no answer of a dispatcher. Is another program at its port?")


def page_is_ok(host: str, port: int, page: str = "/livez") -> bool:
    """Return whether the page answers with HTTP 200. Port 0, any free port, never does."""
    from dispatcher.cli.options import fetch
    from dispatcher.models.errors import Unreachable

    try:
        return port != 0 and fetch(host, port, page, HTTP_TIMEOUT_SECONDS)[0] == 200
    except Unreachable:
        return False


def log_size(log: Path) -> int:
    """Return the size of the log file in bytes, 0 if it does not exist."""
    return log.stat().st_size if log.exists() else 0


def wait_started(process: "Popen[bytes]", host: str, port: int, log: Path, logged: int) -> bool:
    """Wait until /startupz says that every component has reported; return False if that takes more than 30 s.

    If the process ends first, raises the error of its exit code, with the last line of the log after the first `logged`
    bytes.
    """
    from dispatcher.models.errors import CheckFailed, ConfigurationError, Unreachable

    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None:
        if page_is_ok(host, port, "/startupz"):
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    lines = log.read_bytes()[logged:].decode(errors="replace")[-LOG_TAIL_BYTES:].strip().splitlines()
    error = {2: ConfigurationError, 3: Unreachable}.get(process.returncode, CheckFailed)
    raise error(f"it ended with exit code {process.returncode}: {lines[-1] if lines else ''} (log: {log})")


def stop_process(file: "PidFile", pid: int, *, force: bool) -> float:
    """Send SIGTERM, or SIGKILL with `force`; return the seconds until the process ended.

    Raises CheckFailed if it belongs to another user, or if it still runs after 30 s.
    """
    import signal

    from dispatcher.cli.output import say
    from dispatcher.models.errors import CheckFailed

    started = reported = time.monotonic()
    try:
        os.kill(pid, signal.SIGKILL if force else signal.SIGTERM)
    except ProcessLookupError:
        pass  # it ended just now
    except PermissionError:
        raise CheckFailed(f"process {pid} belongs to another user: stop it as that user, or as root") from None
    while file.pid() == pid:
        now = time.monotonic()
        if now - started > STOP_SECONDS:
            raise CheckFailed(f"process {pid} still runs after {STOP_SECONDS:g} s: dispatcher worker stop --force")
        if now - reported > PROGRESS_SECONDS:
            reported = now
            say(f"process {pid} is finishing the rows in work, {now - started:.0f} s so far")
        time.sleep(POLL_SECONDS)
    return round(time.monotonic() - started, 1)
