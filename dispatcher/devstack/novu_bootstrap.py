"""`python -m dispatcher.devstack.novu_bootstrap`: the API key of a freshly installed Novu, without a browser.

Makes the first account, or uses it when it is there, and prints the lines that a dispatcher needs. The dashboard of a
self-hosted Novu makes the same calls when somebody signs up, but they are no documented part of the API: seen to work
with 2.0.0, only read of in the source of 3.x. Where they do not work, the error says how to get the key by hand.
"""

import argparse
import os
import sys
import time
from typing import Any

import httpx

BY_HAND = (
    "Get the key by hand: sign up at Novu's dashboard (port 4000), then copy the secret key of the environment from its"
    " page of API keys into NOVU_SECRET_KEY."
)


class KeyNotCreated(Exception):
    """Novu did not give a key; the message says at which step."""


def main() -> None:
    """Print NOVU_API_URL and NOVU_SECRET_KEY; exit code 1 when there is no key, 3 when nobody answers."""
    options = arguments().parse_args()
    url = options.url.rstrip("/")
    try:
        with httpx.Client(base_url=url, timeout=15, trust_env=False) as novu:
            wait_healthy(novu, options.wait)
            key = create_key(novu, options.email, options.password, options.environment)
    except KeyNotCreated as error:
        print(f"first_key: {error}. {BY_HAND}", file=sys.stderr)  # noqa: T201
        sys.exit(1)
    except httpx.TransportError as error:
        print(f"first_key: no answer from {url}: {error or type(error).__name__}", file=sys.stderr)  # noqa: T201
        sys.exit(3)
    print(f"NOVU_API_URL={url}\nNOVU_SECRET_KEY={key}")  # noqa: T201


def wait_healthy(novu: httpx.Client, seconds: float) -> None:
    """Return when Novu says that it is healthy; raise as the last try did once `seconds` are over."""
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
    """Return the key of the account's environment, after making the account where there is none."""
    account = {"email": email, "password": password}
    person = {"firstName": "Local", "lastName": "Admin", "organizationName": "Local"}
    # Whether it failed because the account exists is told by the login, in whatever words this version uses.
    registered = novu.post("/v1/auth/register", json=account | person)
    login = novu.post("/v1/auth/login", json=account)
    token = field(login, "token")
    if not token:
        raise KeyNotCreated(
            f"no account: registering answered {registered.status_code}, logging in {login.status_code}"
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
    """Return `data` of an answer, or a field of it; None where the answer is another one."""
    try:
        data = answer.json()["data"]
        return data if name is None else data[name]
    except (ValueError, LookupError, TypeError):
        return None


def arguments() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(prog="python -m dispatcher.devstack.novu_bootstrap", description=__doc__)
    parser.add_argument("--url", required=True, help="where Novu's API answers")
    parser.add_argument("--email", default=os.environ.get("NOVU_ADMIN_EMAIL"), help="instead of NOVU_ADMIN_EMAIL")
    parser.add_argument("--password", default=os.environ.get("NOVU_ADMIN_PASSWORD"), help=argparse.SUPPRESS)
    parser.add_argument("--environment", default="Development")
    parser.add_argument("--wait", type=float, default=120.0, help="seconds for Novu to become healthy")
    return parser


if __name__ == "__main__":
    main()
