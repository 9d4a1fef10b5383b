"""Runs the demo: a stack in a temporary folder, the real dispatcher as a child process, the scenario and its report.

It leaves no files behind, except the logs of a demo that failed.
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
from dispatcher.devstack.demo.results import DemoRow, Results, transaction_ids
from dispatcher.devstack.demo.screen import Screen

POSTGRES_SETTINGS = {"track_commit_timestamp": "on"}
LOG_TAIL_LINES = 15

OnReport = Callable[[Report, stack.Stack, int], None]


async def demo(screen: Screen, *, seconds: float, keep: bool, show: OnReport) -> bool:
    """Run the scenario once and return whether the results are as expected.

    `seconds` limits the scenario. `show` gets the report, the stack and the dispatcher's pid. With `keep` everything
    runs on until a signal. Raises KeyboardInterrupt, after the clean-up, if a signal came before the report.
    """
    verdicts: list[Report] = []
    with make_folder(screen) as demo_folder:
        async with (
            stack.until_signal(),
            stack.run_stack(demo_folder.path, settings=POSTGRES_SETTINGS, say=screen.say) as local,
        ):
            screen.say("starting the dispatcher")
            with stack.run_dispatcher(local) as process:
                report = compare(await run_scenario(local, process, screen, seconds))
                verdicts.append(report)
                if report.mismatches:
                    demo_folder.keep_logs = True
                    screen.say(last_lines(local.log))
                show(report, local, process.pid)
                if keep:
                    screen.say(f"everything keeps running in {demo_folder.path} until Ctrl-C")
                    await wait_exit(process)
    if not verdicts:
        raise KeyboardInterrupt
    return not verdicts[0].mismatches


async def run_scenario(local: stack.Stack, process: subprocess.Popen[bytes], screen: Screen, seconds: float) -> Results:
    """Run the scenario for at most `seconds`; return its state in the outbox and at the fake Novu."""
    async with await AsyncConnection.connect(local.postgres.url(), autocommit=True) as connection:
        driver = Driver(connection)
        await local.novu.configure(refused_recipients=driver.refused)
        with screen.live_table(), anyio.move_on_after(seconds) as limit:

            def on_rows(rows: Mapping[int, DemoRow]) -> None:
                screen.update(rows)
                if process.poll() is not None:
                    limit.cancel()

            await driver.run(on_rows)
        if process.returncode is not None:
            screen.say(f"the dispatcher ended by itself with exit code {process.returncode}")
        elif limit.cancelled_caught:
            screen.say(f"not finished after {seconds:g} s")
        return Results(
            rows=list(driver.rows.values()),
            transaction_ids=await transaction_ids(connection, list(driver.rows)),
            effects=await local.novu.effects(),
            requests=await local.novu.requests(),
        )


async def wait_exit(process: subprocess.Popen[bytes]) -> None:
    """Wait until the dispatcher ends; a signal cancels the wait."""
    while not stale_processes.has_exited(process.pid):  # noqa: ASYNC110  (another process)
        await anyio.sleep(0.2)


class DemoFolder:
    """A temporary folder; with `keep_logs` its logs are not removed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.keep_logs = False


@contextmanager
def make_folder(screen: Screen) -> Generator[DemoFolder]:
    """Create the demo's folder for the block, then remove it; after an error the logs stay."""
    demo_folder = DemoFolder(Path(tempfile.mkdtemp(prefix="dispatcher-demo-")).resolve())
    stack.open_path_to_postgres(demo_folder.path)
    try:
        yield demo_folder
    except Exception:
        demo_folder.keep_logs = True
        raise
    finally:
        if demo_folder.keep_logs:
            shutil.rmtree(demo_folder.path / "postgres" / "data", ignore_errors=True)
            screen.say(f"the logs are in {demo_folder.path}")
        else:
            shutil.rmtree(demo_folder.path, ignore_errors=True)


def last_lines(log: Path) -> str:
    """Return the end of a log, with a headline."""
    tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_TAIL_LINES:]
    return "\n".join(["the end of the dispatcher's log:", *(f"  {line}" for line in tail)])
