"""The long-running processes run on uvloop where it is installed, and say which loop they have."""

import subprocess
import sys

import pytest
from httpcore._synchronization import current_async_library

PROGRAM = """
import sys
{hide}
from dispatcher.app.event_loop import installed_loop, run_in_loop, running_loop

async def main(word):
    print(word, installed_loop(), running_loop())

run_in_loop(main, "hello")
"""


@pytest.mark.parametrize(("hide", "loop"), [("", "uvloop"), ("sys.modules['uvloop'] = None", "asyncio")])
def test_uvloop_runs_main_unless_it_is_missing(hide: str, loop: str) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(hide=hide)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["hello", loop, loop]


async def test_httpcore_finds_sniffio() -> None:
    """httpcore tries to import it at every lock, and Python does not remember an import that failed."""
    assert current_async_library() == "asyncio"
    assert "sniffio" in sys.modules
