"""`python -m dispatcher.devstack.novu_bootstrap`: gets the API key of a newly installed Novu without a browser.

Creates the first account, or uses it if it exists, and prints the two variables that a dispatcher needs. The dashboard
of a self-hosted Novu makes the same calls at sign-up, but they are not part of the documented API: observed with 2.0.0
and 3.19.0. If they fail, the error says how to get the key by hand.
"""

import argparse
import os
import sys
import time
from typing import Any

import httpx

BY_HAND = (
    "Get the key by hand: sign up at Novu's dashboard (port 4000), then copy the environment's secret key from the page"
    " API keys into NOVU_SECRET_KEY."
)


class KeyNotCreated(Exception):
    """Novu returned no key; the message names the step that failed."""


def main() -> None:
    """Print NOVU_API_URL and NOVU_SECRET_KEY. Exit code 1 if there is no key, 3 if Novu does not answer."""
    options = arguments().parse_args()
    url = options.url.rstrip("/")
    try:
        with httpx.Client(base_url=url, timeout=15, trust_env=False) as novu:
            wait_healthy(novu, options.wait)
            key = create_key(novu, options.email, options.password, options.environment)
    except KeyNotCreated as error:
        print(f"novu_bootstrap: {error}. {BY_HAND}", file=sys.stderr)  # noqa: T201
        sys.exit(1)
    except httpx.TransportError as error:
        print(f"novu_bootstrap: no answer from {url}: {error or type(error).__name__}", file=sys.stderr)  # noqa: T201
        sys.exit(3)
    print(f"NOVU_API_URL={url}\nNOVU_SECRET_KEY={key}")  # noqa: T201


def wait_healthy(novu: httpx.Client, seconds: float) -> None:
    """Return when Novu's health check succeeds; after `seconds` raise the error of the last attempt."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if novu.get("/v1/health-check").is_success:
                return
            problem: Exception = KeyNotCreated("Novu answers, but is not healthy")
        except httpx.TransportError as error:
            problem = error
        if time.monotonic() > deadline:
            raise problem
        time.sleep(0.5)


def create_key(novu: httpx.Client, email: str, password: str, environment: str) -> str:
    """Return the key of `environment`, after creating the account if there is none; KeyNotCreated if that fails."""
    account = {"email": email, "password": password}
    person = {"firstName": "Local", "lastName": "Admin", "organizationName": "Local"}
    # The text of the answer differs between versions; if it failed because the account exists, the login succeeds.
    registered = novu.post("/v1/auth/register", json=account | person)
    login = novu.post("/v1/auth/login", json=account)
    token = field(login, "token")
    if not token:
        raise KeyNotCreated(
            f"no account: HTTP {registered.status_code} at registration, HTTP {login.status_code} at login"
        )
    answer = novu.get("/v1/environments", headers={"Authorization": f"Bearer {token}"})
    environments = field(answer)
    for each in environments if isinstance(environments, list) else []:
        if each.get("name") == environment and each.get("apiKeys"):
            return str(each["apiKeys"][0]["key"])
    raise KeyNotCreated(
        f"no environment {environment!r} with a key in the answer to /v1/environments ({answer.status_code})"
    )


def field(answer: httpx.Response, name: str | None = None) -> Any:
    """Return `data` of an answer, or its field `name`; None if the answer has another form."""
    try:
        data = answer.json()["data"]
        return data if name is None else data[name]
    except (ValueError, LookupError, TypeError):
        return None


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m dispatcher.devstack.novu_bootstrap", description=__doc__)
    parser.add_argument("--url", required=True, help="URL of Novu's API")
    parser.add_argument("--email", default=os.environ.get("NOVU_ADMIN_EMAIL"), help="default: NOVU_ADMIN_EMAIL")
    parser.add_argument("--password", default=os.environ.get("NOVU_ADMIN_PASSWORD"), help=argparse.SUPPRESS)
    parser.add_argument("--environment", default="Development")
    parser.add_argument("--wait", type=float, default=120.0, help="seconds to wait until Novu is healthy")
    return parser


if __name__ == "__main__":
    main()
