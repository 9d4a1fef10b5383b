"""The values of all secrets in the settings, so that they can be hidden wherever another program repeats them."""

import os

from psycopg.conninfo import conninfo_to_dict

from dispatcher.config.conninfo import conninfo
from dispatcher.config.settings import Settings

TEMPORAL_SECRETS = ("TEMPORAL_API_KEY", "TEMPORAL_TLS_CLIENT_KEY_DATA", "TEMPORAL_GRPC_META_")
"""Prefixes of the variables that contain secrets."""
MIN_SECRET_LENGTH = 9
"""A shorter password is often a word, such as postgres: hiding it everywhere would hide which part has failed."""


def secret_values(settings: Settings) -> list[str]:
    """Return the secrets, longest first, without short ones. Secrets in files that a library reads are not known."""
    urls = (settings.database_url, settings.listen_url)
    found = [str(conninfo_to_dict(conninfo(url)).get("password", "")) for url in urls]
    found.append(os.environ.get("PGPASSWORD", ""))
    keys = (settings.novu_secret_key, settings.http_token, settings.sentry_dsn)
    found += [secret.get_secret_value() for secret in keys if secret]
    for name, value in settings.temporal_environment.items():
        if name.startswith(TEMPORAL_SECRETS):
            found += value.split()  # a key has several lines, which a message may have joined
    return sorted({secret for secret in found if len(secret) >= MIN_SECRET_LENGTH}, key=len, reverse=True)
