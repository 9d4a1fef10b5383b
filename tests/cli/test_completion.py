"""Shell completion by Typer, which has to work with the way in which our process exits."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
ENVIRONMENT = {"PATH": f"{BIN}:{os.environ['PATH']}", "TERM": "dumb"}


def completed(*words: str) -> list[str]:
    """Return what a real bash, with the script we print, offers for the last word."""
    script = f"""
        eval "$(dispatcher --show-completion)"
        COMP_WORDS=({" ".join(words[:-1])} "{words[-1]}"); COMP_CWORD={len(words) - 1}
        complete -p dispatcher >/dev/null && _dispatcher_completion dispatcher && printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", script], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("dispatcher", "wor"), ["worker"]),
        (("dispatcher", "daemon", "st"), ["start", "stop", "status"]),
        (("dispatcher", "run", "--dr"), ["--dry-run"]),
        (("dispatcher", "run", "--role", "d"), ["dispatch"]),
    ],
)
def test_bash_completes_commands(words: tuple[str, ...], offered: list[str]):
    assert completed(*words) == offered


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_complete_commands(shell: str):
    asked = {"_TYPER_COMPLETE_ARGS": "dispatcher wor", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    environment = {**ENVIRONMENT, **asked, "_DISPATCHER_COMPLETE": f"complete_{shell}"}
    done = subprocess.run(["dispatcher"], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "worker" in done.stdout


def test_completion_loads_as_little_as_help():
    """A person waits at the TAB key; the liberal bound is for a loaded machine, 0.2 s is what it takes."""
    asked = {"COMP_WORDS": "dispatcher wor", "COMP_CWORD": "1", "_DISPATCHER_COMPLETE": "complete_bash"}
    began = time.monotonic()
    done = subprocess.run(["dispatcher"], env={**ENVIRONMENT, **asked}, capture_output=True, check=False)
    assert done.stdout == b"worker\n"
    assert time.monotonic() - began < 5
