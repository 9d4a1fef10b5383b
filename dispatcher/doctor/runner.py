"""What a check is, what it finds, and how many of them are carried out.

A check is a function of the shared context that returns a finding. Checks of one leg follow each other, legs run side
by side, and everything is told in the order of the list. Nothing here waits for ever, whatever is broken.
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
from dispatcher.novu.client import RawJsonClient

CHECK_TIMEOUT_SECONDS = 6.0
TOTAL_TIMEOUT_SECONDS = 18.0
"""For everything together: what is still to be done then is not asked any more."""
RETRY_ADVICE = "see that it runs, and that nothing on the way to it is overloaded; then run this again"


class CheckResult(StrEnum):
    """How a check ended."""

    PASS = "pass"  # noqa: S105  (no password)
    WARN = "warn"
    FAIL = "fail"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was measured, and one line on what to do about it. `unreachable`: something outside did not answer."""

    result: CheckResult
    value: str
    remedy: str | None = None
    unreachable: bool = False


def passed(value: str) -> Finding:
    """Return that all is well."""
    return Finding(CheckResult.PASS, value)


def warned(value: str, remedy: str) -> Finding:
    """Return that it works, but not as well as it could, or not for much longer."""
    return Finding(CheckResult.WARN, value, remedy)


def failed(value: str, remedy: str) -> Finding:
    """Return that it does not work."""
    return Finding(CheckResult.FAIL, value, remedy)


def unanswered(value: str, remedy: str) -> Finding:
    """Return that it does not work because somebody does not answer."""
    return Finding(CheckResult.FAIL, value, remedy, unreachable=True)


def skipped(reason: str, remedy: str | None = None) -> Finding:
    """Return why it could not be looked at."""
    return Finding(CheckResult.SKIPPED, reason, remedy)


@dataclass
class Context:
    """What is looked at, and what earlier checks have opened for later ones; `exits` closes it."""

    settings: Settings
    exits: AsyncExitStack
    login_error: str | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """For the connection, which another leg uses too."""
    connection: AsyncConnection[TupleRow] = field(init=False)
    outbox_oid: int = field(init=False)
    temporal: Client = field(init=False)
    novu: RawJsonClient = field(init=False)


@dataclass(frozen=True, slots=True)
class Check:
    """One check: what it is called in every answer, and which others have to have gone well before it."""

    name: str
    find: Callable[[Context], Awaitable[Finding]]
    needs: tuple[str, ...] = ()


Groups = Sequence[Sequence[Check]]
OnFinding = Callable[[str, Finding], None]
"""Takes the next check's name and what it found."""


class Runner:
    """All checks, once."""

    def __init__(self, context: Context, groups: Groups) -> None:
        self._context = context
        self._groups = groups
        loop = asyncio.get_running_loop()
        self._found: dict[str, asyncio.Future[Finding]] = {
            check.name: loop.create_future() for leg in groups for check in leg
        }
        self._end = loop.time() + TOTAL_TIMEOUT_SECONDS

    async def run(self, on_finding: OnFinding) -> None:
        """Carry all checks out; `tell` hears of each as soon as those before it have been told."""
        asyncio.get_running_loop().set_default_executor(NonBlockingThreadPool())
        async with asyncio.TaskGroup() as tasks:
            for leg in self._groups:
                tasks.create_task(self._run_group(leg))
            for name, finding in self._found.items():
                on_finding(name, await finding)

    async def _run_group(self, leg: Sequence[Check]) -> None:
        for check in leg:
            self._found[check.name].set_result(await self._finding(check))

    async def _finding(self, check: Check) -> Finding:
        for need in check.needs:
            before = await self._found[need]
            if before.result is CheckResult.FAIL:
                return skipped(f"because {need} failed")
            if before.result is CheckResult.SKIPPED:
                return skipped(before.value)
        return await run_bounded(check, self._context, self._end)


async def run_bounded(check: Check, context: Context, end: float) -> Finding:
    """Return what the check finds in its time."""
    seconds = min(CHECK_TIMEOUT_SECONDS, end - asyncio.get_running_loop().time())
    if seconds <= 0:
        return unanswered(f"not asked any more: the others took {TOTAL_TIMEOUT_SECONDS:g} s", RETRY_ADVICE)
    try:
        async with asyncio.timeout(seconds):
            return await check.find(context)
    except TimeoutError:
        return unanswered(f"no answer within {seconds:.0f} s", RETRY_ADVICE)
    except (DispatcherError, psycopg.Error, httpx.HTTPError, RPCError, RuntimeError, OSError) as error:
        return from_error(error)


def from_error(error: Exception) -> Finding:
    """Return an error that is nobody's bug as a finding."""
    if isinstance(error, DispatcherError):  # its sentence says what is wrong, a colon, and what to do
        value, _, remedy = str(error).partition(": ")
        return Finding(CheckResult.FAIL, value, remedy or RETRY_ADVICE, isinstance(error, Unreachable))
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return failed(first_line(error), "as the tables' owner run what dispatcher db sql grants --role NAME prints")
    if isinstance(error, psycopg.Error) and not isinstance(error, psycopg.OperationalError):
        return failed(first_line(error), "see dispatcher db status")
    words = first_line(error) if isinstance(error, psycopg.Error) else f"{type(error).__name__}: {error}"
    return unanswered(words, RETRY_ADVICE)


def abbreviated(things: Sequence[object], named: int = 4) -> str:
    """Return the first of many for a sentence."""
    more = f" and {len(things) - named} more" if len(things) > named else ""
    return ", ".join(map(str, things[:named])) + more


class NonBlockingThreadPool(ThreadPoolExecutor):
    """Threads that nobody waits for at the end: one may still be asking for a name that nobody resolves."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002
        """Leave them alone."""
        super().shutdown(wait=False, cancel_futures=True)


def exit_code(findings: Iterable[Finding]) -> int:
    """Return what the shell is told: 0 nothing failed, 3 only what does not answer did, 1 something else did."""
    failures = [each for each in findings if each.result is CheckResult.FAIL]
    if not failures:
        return 0
    return 3 if all(each.unreachable for each in failures) else 1
