"""The stage: a stack in a temporary folder, the real dispatcher as a child, the play, the verdict, and the clean-up.

Nothing is left behind but the logs of a demo that went wrong.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

import anyio
from psycopg import AsyncConnection

from dispatcher.devstack import stack, stale_processes
from dispatcher.devstack.demo.driver import Driver
from dispatcher.devstack.demo.report import Report, compare
from dispatcher.devstack.demo.results import DemoRow, Results, transactions
from dispatcher.devstack.demo.screen import Screen

SETTINGS = {"track_commit_timestamp": "on"}
LAST_LINES = 15

Show = Callable[[Report, stack.Stack, int], None]


async def demo(screen: Screen, *, seconds: float, keep: bool, show: Show) -> bool:
    """Play once and return whether all went as it should; `show` gets the verdict, the stack and the dispatcher's pid.

    Raises KeyboardInterrupt, after cleaning up, when a signal came before the verdict.
    """
    verdicts: list[Report] = []
    with folder(screen) as place:
        async with stack.until_signal(), stack.run_stack(place.path, settings=SETTINGS, say=screen.say) as local:
            screen.say("starting the dispatcher")
            with stack.run_dispatcher(local) as process:
                report = compare(await run_scenario(local, process, screen, seconds))
                verdicts.append(report)
                if report.mismatches:
                    place.keep_logs = True
                    screen.say(last_lines(local.log))
                show(report, local, process.pid)
                if keep:
                    screen.say(f"everything keeps running in {place.path} until Ctrl-C")
                    await wait_exit(process)
    if not verdicts:
        raise KeyboardInterrupt
    return not verdicts[0].mismatches


async def run_scenario(local: stack.Stack, process: subprocess.Popen[bytes], screen: Screen, seconds: float) -> Results:
    """Play the story for at most `seconds` and return what both sides know then."""
    async with await AsyncConnection.connect(local.postgres.url(), autocommit=True) as connection:
        performance = Driver(connection)
        await local.novu.configure(refused_recipients=performance.refused)
        with screen.live_table(), anyio.move_on_after(seconds) as limit:

            def tell(rows: Mapping[int, DemoRow]) -> None:
                screen.update(rows)
                if process.poll() is not None:
                    limit.cancel()

            await performance.run(tell)
        if process.returncode is not None:
            screen.say(f"the dispatcher ended by itself with exit code {process.returncode}")
        elif limit.cancelled_caught:
            screen.say(f"not over after {seconds:g} s")
        return Results(
            rows=list(performance.rows.values()),
            transactions=await transactions(connection, list(performance.rows)),
            effects=await local.novu.effects(),
            requests=await local.novu.requests(),
        )


async def wait_exit(process: subprocess.Popen[bytes]) -> None:
    """Wait until the dispatcher ends; a signal ends the wait from outside."""
    while not stale_processes.has_exited(process.pid):  # noqa: ASYNC110  (another process)
        await anyio.sleep(0.2)


class DemoFolder:
    """A temporary folder; with `keep_logs` its logs outlive it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.keep_logs = False


@contextmanager
def folder(screen: Screen) -> Generator[DemoFolder]:
    """Make the demo's folder for the block and remove it; after an error the logs stay."""
    place = DemoFolder(Path(tempfile.mkdtemp(prefix="dispatcher-demo-")).resolve())
    stack.open_path_to_postgres(place.path)
    try:
        yield place
    except Exception:
        place.keep_logs = True
        raise
    finally:
        if place.keep_logs:
            shutil.rmtree(place.path / "postgres" / "data", ignore_errors=True)
            screen.say(f"the logs are in {place.path}")
        else:
            shutil.rmtree(place.path, ignore_errors=True)


def last_lines(log: Path) -> str:
    """Return the end of a log, introduced."""
    tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]
    return "\n".join(["the dispatcher's last words:", *(f"  {line}" for line in tail)])
