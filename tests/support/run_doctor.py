"""`dispatcher doctor` as a person runs it, and what it says."""

import asyncio
import json
import os
import subprocess
import sys
from typing import Any, NamedTuple

from house import House

from dispatcher import doctor

PASSWORD, TOKEN = "hunter2-hunter2", "sesame-sesame-sesame"


class Told(NamedTuple):
    """What doctor said: exit code, and each check's verdict, value and remedy."""

    code: int
    checks: dict[str, dict[str, Any]]

    def verdicts(self, verdict: str) -> list[str]:
        """Return the checks that ended so."""
        return [name for name, check in self.checks.items() if check["verdict"] == verdict]

    def because(self, failed: str) -> set[str]:
        """Return the checks that were skipped because of this one."""
        return {name for name, check in self.checks.items() if check["value"] == f"because {failed} failed"}


def run(house: House, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run doctor as the tables' owner; whatever it says, no secret may be in it."""
    environment = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": house.url,
        "TEMPORAL_ADDRESS": house.temporal_address,
        "TEMPORAL_TASK_QUEUE": house.queue,
        "NOVU_API_URL": house.novu.url,
        "NOVU_SECRET_KEY": house.novu.api_key,
        "DISPATCHER_HTTP_TOKEN": TOKEN,
        **settings,
    }
    environment["DATABASE_URL"] = environment["DATABASE_URL"].replace("@", f":{PASSWORD}@")
    done = subprocess.run(
        [sys.executable, "-m", "dispatcher", "doctor", *arguments],
        cwd=house.folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    for secret in (PASSWORD, TOKEN, environment["NOVU_SECRET_KEY"]):
        assert not secret or secret not in done.stdout + done.stderr
    return done


async def told(house: House, **settings: str) -> Told:
    """Return what doctor finds; the test's own connections live meanwhile."""
    done = await asyncio.to_thread(run, house, "--json", **settings)
    assert done.stderr == ""
    checks = {check.pop("check"): check for check in json.loads(done.stdout)}
    assert list(checks) == ["configuration", *doctor.names()], "always all of them, in the same order"
    for check in checks.values():
        assert bool(check["remedy"]) is (check["verdict"] in {"warn", "fail"}) or check["verdict"] == "skipped"
    return Told(done.returncode, checks)
