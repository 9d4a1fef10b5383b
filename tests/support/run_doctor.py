"""`dispatcher doctor` as a person runs it, and what it says."""

import asyncio
import json
import subprocess
from typing import Any, NamedTuple

from dispatcher import doctor
from tests.support.commands import run_dispatcher
from tests.support.stack import Stack

PASSWORD, TOKEN = "hunter2-hunter2", "sesame-sesame-sesame"


class DoctorResult(NamedTuple):
    """The output of doctor: exit code, and each check's verdict, value and remedy."""

    code: int
    checks: dict[str, dict[str, Any]]

    def verdicts(self, verdict: str) -> list[str]:
        """Return the checks that ended so."""
        return [name for name, check in self.checks.items() if check["verdict"] == verdict]

    def because(self, failed: str) -> set[str]:
        """Return the checks that were skipped because of this one."""
        return {name for name, check in self.checks.items() if check["value"] == f"because {failed} failed"}


def run(stack: Stack, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run doctor as the tables' owner; its output must have no secret."""
    environment = {
        "DATABASE_URL": stack.url,
        "TEMPORAL_ADDRESS": stack.temporal_address,
        "TEMPORAL_TASK_QUEUE": stack.queue,
        "NOVU_API_URL": stack.novu.url,
        "NOVU_SECRET_KEY": stack.novu.api_key,
        "DISPATCHER_HTTP_TOKEN": TOKEN,
        **settings,
    }
    environment["DATABASE_URL"] = environment["DATABASE_URL"].replace("@", f":{PASSWORD}@")
    done = run_dispatcher("doctor", *arguments, cwd=stack.folder, timeout=60, environment=environment)
    for secret in (PASSWORD, TOKEN, environment["NOVU_SECRET_KEY"]):
        assert not secret or secret not in done.stdout + done.stderr
    return done


async def run_doctor(stack: Stack, **settings: str) -> DoctorResult:
    """Return what doctor finds; the test's own connections stay open meanwhile."""
    done = await asyncio.to_thread(run, stack, "--json", **settings)
    assert done.stderr == ""
    checks = {check.pop("check"): check for check in json.loads(done.stdout)}
    assert list(checks) == ["configuration", *doctor.check_names()], "always all of them, in the same order"
    for check in checks.values():
        assert bool(check["remedy"]) is (check["verdict"] in {"warn", "fail"}) or check["verdict"] == "skipped"
    return DoctorResult(done.returncode, checks)
