"""Checks, their findings, and the runner that executes them.

A check is a function that takes the shared context and returns a finding. The checks of a group run one after another,
the groups run side by side, and results are reported in the order of the list. Every check has a time limit.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from enum import StrEnum

import httpx
import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from temporalio.client import Client
from temporalio.service import RPCError

from dispatcher.config.settings import Settings
from dispatcher.install.session import first_line
from dispatcher.models.errors import DispatcherError, Unreachable
from dispatcher.novu.http_client import RawJsonClient

CHECK_TIMEOUT_SECONDS = 6.0
TOTAL_TIMEOUT_SECONDS = 18.0
"""Limit for all checks together. Checks that have not started by then are reported as unanswered."""
RETRY_ADVICE = "check that it runs, and that nothing on the path to it is overloaded; then run doctor again"


class CheckStatus(StrEnum):
    """The result of a check."""

    PASS = "pass"  # noqa: S105  (no password)
    WARN = "warn"
    FAIL = "fail"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check: the observed value, and a remedy in one line. `unreachable`: a server did not answer."""

    status: CheckStatus
    value: str
    remedy: str | None = None
    unreachable: bool = False


def passed(value: str) -> Finding:
    """Return a finding that needs no action."""
    return Finding(CheckStatus.PASS, value)


def warned(value: str, remedy: str) -> Finding:
    """Return a finding that something works, but limited or at risk."""
    return Finding(CheckStatus.WARN, value, remedy)


def failed(value: str, remedy: str) -> Finding:
    """Return a finding that something does not work."""
    return Finding(CheckStatus.FAIL, value, remedy)


def unanswered(value: str, remedy: str) -> Finding:
    """Return a finding that something does not work because a server does not answer."""
    return Finding(CheckStatus.FAIL, value, remedy, unreachable=True)


def skipped(reason: str, remedy: str | None = None) -> Finding:
    """Return a finding that the check was not possible, for `reason`."""
    return Finding(CheckStatus.SKIPPED, reason, remedy)


@dataclass
class Context:
    """The settings to check, and the connections that earlier checks opened for later ones; `exits` closes them.

    `login_error` is set by the check tls if PostgreSQL refused the login; the check auth reports it.
    """

    settings: Settings
    exits: AsyncExitStack
    login_error: str | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Guards `connection`, which the group of Novu uses too."""
    connection: AsyncConnection[TupleRow] = field(init=False)
    outbox_oid: int = field(init=False)
    temporal: Client = field(init=False)
    novu: RawJsonClient = field(init=False)


@dataclass(frozen=True, slots=True)
class Check:
    """One check: its name in the output, its function, and the checks that must not have failed before it."""

    name: str
    find: Callable[[Context], Awaitable[Finding]]
    needs: tuple[str, ...] = ()


Groups = Sequence[Sequence[Check]]
OnFinding = Callable[[str, Finding], None]
"""Called with the name of a check and its finding."""


class Runner:
    """Runs all checks once."""

    def __init__(self, context: Context, groups: Groups) -> None:
        self._context = context
        self._groups = groups
        loop = asyncio.get_running_loop()
        self._found: dict[str, asyncio.Future[Finding]] = {
            check.name: loop.create_future() for group in groups for check in group
        }
        self._end = loop.time() + TOTAL_TIMEOUT_SECONDS

    async def run(self, on_finding: OnFinding) -> None:
        """Run all checks. `on_finding` gets each result as soon as the results before it are reported."""
        asyncio.get_running_loop().set_default_executor(NonBlockingThreadPool())
        async with asyncio.TaskGroup() as tasks:
            for group in self._groups:
                tasks.create_task(self._run_group(group))
            for name, finding in self._found.items():
                on_finding(name, await finding)

    async def _run_group(self, group: Sequence[Check]) -> None:
        for check in group:
            self._found[check.name].set_result(await self._finding(check))

    async def _finding(self, check: Check) -> Finding:
        for need in check.needs:
            before = await self._found[need]
            if before.status is CheckStatus.FAIL:
                return skipped(f"because {need} failed")
            if before.status is CheckStatus.SKIPPED:
                return skipped(before.value)
        return await run_bounded(check, self._context, self._end)


async def run_bounded(check: Check, context: Context, end: float) -> Finding:
    """Return the finding of `check`; it has until `end` (event loop time), and `CHECK_TIMEOUT_SECONDS` at most."""
    seconds = min(CHECK_TIMEOUT_SECONDS, end - asyncio.get_running_loop().time())
    if seconds <= 0:
        return unanswered(f"not started: the other checks took {TOTAL_TIMEOUT_SECONDS:g} s", RETRY_ADVICE)
    try:
        async with asyncio.timeout(seconds):
            return await check.find(context)
    except TimeoutError:
        return unanswered(f"no answer within {seconds:.0f} s", RETRY_ADVICE)
    except (DispatcherError, psycopg.Error, httpx.HTTPError, RPCError, RuntimeError, OSError) as error:
        return from_error(error)


def from_error(error: Exception) -> Finding:
    """Return the finding for an error that has a known cause outside the code."""
    if isinstance(error, DispatcherError):  # its message has the form "problem: remedy"
        value, _, remedy = str(error).partition(": ")
        return Finding(CheckStatus.FAIL, value, remedy or RETRY_ADVICE, isinstance(error, Unreachable))
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return failed(first_line(error), "as the tables' owner run what dispatcher db sql grants --role NAME prints")
    if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
        return failed("this server is a standby, which takes no changes", "use the primary's URL")
    if isinstance(error, psycopg.Error) and not isinstance(error, psycopg.OperationalError):
        return failed(first_line(error), "see dispatcher db status")
    words = first_line(error) if isinstance(error, psycopg.Error) else f"{type(error).__name__}: {error}"
    return unanswered(words, RETRY_ADVICE)


def abbreviated(things: Sequence[object], named: int = 4) -> str:
    """Return the first `named` of `things` as a list, and how many more there are."""
    more = f" and {len(things) - named} more" if len(things) > named else ""
    return ", ".join(map(str, things[:named])) + more


class NonBlockingThreadPool(ThreadPoolExecutor):
    """A thread pool whose end does not wait: a thread may still wait for a name server that does not answer."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002
        """Return without waiting for the threads."""
        super().shutdown(wait=False, cancel_futures=True)


def exit_code(findings: Iterable[Finding]) -> int:
    """Return the exit code: 0 if nothing failed, 3 if only servers that do not answer failed, 1 otherwise."""
    failures = [each for each in findings if each.status is CheckStatus.FAIL]
    if not failures:
        return 0
    return 3 if all(each.unreachable for each in failures) else 1
