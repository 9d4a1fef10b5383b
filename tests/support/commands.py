"""Run a command of ours as a separate process without a terminal."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path


def run_dispatcher(
    *arguments: str, cwd: Path, environment: Mapping[str, str], timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run `dispatcher` with these arguments, and with PATH and these variables alone as its environment."""
    return subprocess.run(
        [sys.executable, "-m", "dispatcher", *arguments],
        cwd=cwd,
        env={"PATH": os.environ["PATH"], **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
