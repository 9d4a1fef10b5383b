"""The dispatcher of commit 0b5b0c9, to run beside this one. Its package is a fixture: a clone need not have history."""

import sys
import tarfile
from pathlib import Path

from tests.support.repository import ROOT
from tests.support.stack import Process, Stack

ARCHIVE = ROOT / "tests/faults/versions/0b5b0c9.tar.xz"
MODULE = (sys.executable, "-m", "dispatcher")


def unpack_previous(folder: Path) -> Path:
    """Unpack the previous version; return the folder for PYTHONPATH."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder


async def run_previous(stack: Stack, package: Path, **settings: str) -> Process:
    """Start `dispatcher run` of the previous version, and wait until its listener is proven."""
    return await stack.running((*MODULE, "run"), PYTHONPATH=str(package), **settings)
