"""Runs the operator's commands as real processes, with and without a terminal."""

import os
import pty
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from dispatcher.models.notification import RecipientState
from tests.support.commands import run_dispatcher
from tests.support.outbox_fixture import OutboxFixture

Done = subprocess.CompletedProcess[str]


def command(outbox_fixture: OutboxFixture, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """Return the program, and the environment that names the database."""
    return [sys.executable, "-m", "dispatcher", *arguments], {"PATH": os.environ["PATH"], **usual(outbox_fixture)}


def usual(outbox_fixture: OutboxFixture) -> dict[str, str]:
    return {"DATABASE_URL": outbox_fixture.url, "COLUMNS": "160", "TERM": "xterm"}


def run(outbox_fixture: OutboxFixture, *arguments: str, **environment: str) -> Done:
    """Run a command without a terminal."""
    settings = usual(outbox_fixture) | environment
    return run_dispatcher(*arguments, cwd=Path("/"), timeout=60, environment=settings)


def at_terminal(outbox_fixture: OutboxFixture, *arguments: str, types: str = "") -> tuple[int, str]:
    """Run a command on a terminal and type the answer to its question; return its exit code and the screen."""
    program, environment = command(outbox_fixture, *arguments)
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(program[0], program, environment)
    screen = b""
    while True:
        if types and b"[y/N]" in screen:
            os.write(terminal, types.encode())
            types = ""
        try:
            read = os.read(terminal, 65536)
        except OSError:
            read = b""
        if not read:
            break
        screen += read
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), screen.decode()


async def failed(outbox_fixture: OutboxFixture, wait: timedelta | None = None, **columns: Any) -> int:
    row = await outbox_fixture.acquired(**columns)
    await outbox_fixture.settle(row, RecipientState.REFUSED, wait)
    return row.id
