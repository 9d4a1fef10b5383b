"""Every command of ours in README and docs/ is run; the quickstart line by line, as a newcomer types it.

Lines of other programs (docker, heroku, kubectl) are only read: test_pages.py does that.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from dispatcher.devstack.processes import free_port
from tests.docs.doc_commands import PAGES, commands, consoles
from tests.support.stack import Stack
from tests.support.waits import eventually

BIN = Path(sys.executable).parent
SIGN_OF_LIFE = {
    "dispatcher run": "listening",
    "dispatcher run --role worker": '"event": "started"',
    "dispatcher web": '"event": "http"',
    "dispatcher tail": "following",
    "dispatcher dev": "ready; Ctrl-C stops everything",
}
"""Commands that go on until they are told to stop, and what they say once they work."""
ELSEWHERE = {
    "dispatcher demo",
    "dispatcher worker start",
    "dispatcher worker stop",
    "dispatcher --install-completion",
} | {
    "dispatcher db renew",
    "dispatcher db renew --yes",
}
"""test_demo.py, test_worker_commands.py, test_completion.py and test_copied_databases.py play them."""
LAST = "dispatcher db uninstall"
ASKING = ("dispatcher retry", "dispatcher retract", "dispatcher db adopt", "dispatcher db release")
NOT_ZERO = {
    "dispatcher db status": 1,  # in the quickstart the triggers are gone at that point
    "NOVU_SECRET_KEY=wrong dispatcher doctor": 1,
    "TEMPORAL_ADDRESS=127.0.0.1:1 dispatcher doctor": 3,
}
TYPED = sorted({command for page in PAGES for command in commands(page)} - ELSEWHERE)


@pytest.fixture
def folder(stack_folder: Path) -> Path:
    """The folder in which a person works; PostgreSQL's user can enter it."""
    made = Path(tempfile.mkdtemp(dir=stack_folder))
    made.chmod(0o755)
    return made


def sign_of_life(command: str) -> str | None:
    """Return the line by which a command shows that it runs, if it ends only on a signal."""
    return SIGN_OF_LIFE.get(command) or SIGN_OF_LIFE.get(" ".join(command.split()[:2]))


def environment(stack: Stack) -> dict[str, str]:
    """The environment of a person at a terminal: the owner's URL, the servers, and our command on the path."""
    return {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "DATABASE_URL": stack.url,
        "TEMPORAL_ADDRESS": stack.temporal_address,
        "TEMPORAL_TASK_QUEUE": stack.queue,
        "NOVU_API_URL": stack.novu.url,
        "NOVU_SECRET_KEY": stack.novu.api_key,
        "DISPATCHER_HTTP_PORT": str(free_port()),
        "DISPATCHER_LOG_FORMAT": "json",
    }


async def typed(line: str, folder: Path, variables: dict[str, str]) -> tuple[int, str]:
    """Run a line in a shell without input; return its exit code and its output."""
    done = await anyio.run_process(
        ["bash", "-c", line], cwd=folder, env=variables, check=False, stderr=subprocess.STDOUT, input=b""
    )
    return done.returncode, done.stdout.decode()


@contextmanager
def run_until_stopped(
    line: str, folder: Path, variables: dict[str, str]
) -> Generator[tuple[subprocess.Popen[bytes], Path]]:
    """Run a line that goes on; Ctrl-C ends it."""
    words = folder / f"{re.sub(r'[^a-z]+', '-', line)}.log"
    with (
        words.open("wb") as file,
        subprocess.Popen(
            ["bash", "-c", f"exec {line}"], cwd=folder, env=variables, stdout=file, stderr=file
        ) as process,
    ):
        try:
            yield process, words
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(30) in {0, 130}, words.read_text()


async def wait_for_sign(process: subprocess.Popen[bytes], words: Path, sign: str) -> None:
    async def told() -> bool:
        said = await anyio.Path(words).read_text()
        assert process.poll() is None, said
        return sign in said

    await eventually(told, f"{sign}: {words}", 60)


@pytest.mark.parametrize("line", [line for line in TYPED if sign_of_life(line)])
async def test_long_running_commands_start_and_stop(stack: Stack, folder: Path, line: str):
    with run_until_stopped(line, folder, environment(stack)) as (process, words):
        await wait_for_sign(process, words, sign_of_life(line) or "")


async def test_short_commands_do_what_their_page_says(stack: Stack):
    variables = environment(stack)
    await stack.running(DISPATCHER_HTTP_PORT=variables["DISPATCHER_HTTP_PORT"])
    row = await stack.notify()
    await stack.final(row)
    ending = [line for line in TYPED if not sign_of_life(line)]
    assert len(ending) > 20
    failed: dict[str, str] = {}
    for line in sorted(ending, key=lambda line: (line.startswith(LAST), "retract" in line)):
        here = re.sub(r"\bID\b", str(row), line).replace("NAME", "dispatcher_run")
        if line.startswith((LAST, *ASKING)) and "--yes" not in line:
            here += " --yes"
        code, said = await typed(here, stack.folder, variables)
        if code != 0:
            failed[here] = said[-800:]
        await stack.quiet()
    assert failed == {}


async def test_quickstart_works_line_by_line(folder: Path):
    lines = consoles("docs/quickstart.md")
    assert lines[:2] == ["make demo", ". .venv/bin/activate"]
    begin, *rest = lines[2:]
    variables = {"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(folder)}
    with run_until_stopped(begin, folder, variables) as (process, words):
        await wait_for_sign(process, words, "ready; Ctrl-C")
        for line in rest:
            code, said = await typed(line, folder, variables)
            assert code == NOT_ZERO.get(line, 0), f"$ {line}\n{said}"
