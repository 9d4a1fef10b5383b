"""Checks of the settings alone: the address of the health port, and the DSN of Sentry."""

import asyncio
from ipaddress import ip_address
from urllib.parse import urlsplit

from dispatcher.config.setting_sources import merge_sources
from dispatcher.doctor.runner import Context, Finding, failed, passed, warned

ANSWER_TIMEOUT_SECONDS = 3.0


async def http_port(context: Context) -> Finding:
    """Check whether the health port is reachable from other machines and, if so, has a token."""
    settings = context.settings
    place = f"{settings.http_host}:{settings.http_port}"
    try:
        addresses = await asyncio.get_running_loop().getaddrinfo(settings.http_host, settings.http_port)
    except (OSError, UnicodeError) as error:
        return failed(f"{place}: {error}", "set DISPATCHER_HTTP_HOST to an address of this machine")
    private = all(ip_address(str(each[4][0]).partition("%")[0]).is_loopback for each in addresses)
    if private:
        return passed(f"{place}, reachable from this machine only")
    if settings.http_token is None:
        return warned(
            f"other machines can reach {place}: without a token only bare health paths answer, and web does not start",
            "set DISPATCHER_HTTP_TOKEN (openssl rand -hex 32), or DISPATCHER_HTTP_HOST=127.0.0.1",
        )
    return passed(f"{place}, with a token")


async def sentry(context: Context) -> Finding:
    """Check that the DSN is valid and that its server accepts connections. Sends no event."""
    found = merge_sources(context.settings.origins.sources).get("SENTRY_DSN")
    if found is None:
        return passed("off: SENTRY_DSN is not set")
    remedy = "copy SENTRY_DSN again from the project's settings at Sentry, page client keys"
    try:
        dsn = urlsplit(found.value)
        host, port = dsn.hostname, dsn.port or {"http": 80, "https": 443}[dsn.scheme]
    except (ValueError, KeyError):
        return failed("SENTRY_DSN is not a DSN", remedy)
    if not (host and dsn.username and dsn.path.rsplit("/", 1)[-1].isdecimal()):
        return failed("SENTRY_DSN is not a DSN", remedy)
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_SECONDS):
            _, writer = await asyncio.open_connection(host, port)
    except OSError:  # a TimeoutError too
        return warned(
            f"{host}:{port} does not answer, so no alert is delivered", "allow connections from this machine to it"
        )
    writer.close()
    return passed(f"{host}:{port} answers")
