"""`python -m tests.mutants`: plants each bug of the catalogue in a copy of the tree and prints who caught it."""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.mutants.catalogue import MUTANTS, Mutant
from tests.support.repository import ROOT

COPIED = ("dispatcher", "tests", "sql", "docs", "pyproject.toml", "README.md", "CHANGELOG.md", "CONTRIBUTING.md")
MUTANT_SECONDS, HEALTHY_SECONDS = 120, 900
CAUGHT = re.compile(r"^(?:FAILED|ERROR) (?:[\w/]*/)?(.+?)(?: - .*)?$", re.MULTILINE)


def copied(folder: Path) -> Path:
    """Copy the tree and return the Python that imports from the copy; what is installed is shared."""
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif (ROOT / name).exists():
            shutil.copy2(ROOT / name, folder / name)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / ".venv"], check=True)
    [packages] = (folder / ".venv").glob("lib/*/site-packages")
    installed = next(path for path in sys.path if path.endswith("site-packages"))
    # In this order: the copy before what is installed, whose own link to the tree is not followed.
    (packages / "copy.pth").write_text(f"{folder}\n{installed}\n")
    return folder / ".venv" / "bin" / "python"


def run(python: Path, folder: Path, tests: list[str], seconds: float) -> tuple[int, str]:
    """Run tests until one fails; return pytest's exit code and output. A hanging run is ended with its children."""
    command = [str(python), "-m", "pytest", "-x", "-q", "--tb=line", "-p", "no:randomly", "-p", "no:cacheprovider"]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # the Temporal server is beside our Python
    process = subprocess.Popen(
        [*command, *tests],
        cwd=folder,
        env={**os.environ, "PATH": path, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        words, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)  # pytest's fixtures end what they started
        words, _ = process.communicate(timeout=60)
        return 1, words + "\nFAILED (it hung)"
    return process.returncode, words


def plant(mutant: Mutant, folder: Path, python: Path) -> tuple[str, str]:
    """Return who caught the bug, or what is wrong, and how long it took."""
    file = folder / "dispatcher" / mutant.file
    healthy = file.read_text()
    if healthy.count(mutant.old) != 1:
        return f"DOES NOT FIT: the text occurs {healthy.count(mutant.old)} times", ""
    began = time.monotonic()
    file.write_text(healthy.replace(mutant.old, mutant.new))
    try:
        code, words = run(python, folder, mutant.tests.split(), MUTANT_SECONDS)
    finally:
        file.write_text(healthy)
    seconds = f"{time.monotonic() - began:.1f}"
    if code == 0:
        return "SURVIVED", seconds
    caught = CAUGHT.search(words)
    return (caught[1] if caught else f"NO VERDICT (pytest ended with {code}): {words[-300:]}"), seconds


def main() -> int:
    """Plant every bug; return 1 when one got through."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--only", default="", help="plant only the bugs whose name contains this")
    parser.add_argument("--trusting", action="store_true", help="do not run the tests without a bug first")
    options = parser.parse_args()
    chosen = [mutant for mutant in MUTANTS if options.only in mutant.name]
    with tempfile.TemporaryDirectory(prefix="dispatcher-mutants-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        python = copied(folder)
        if not options.trusting:
            tests = sorted({test for mutant in chosen for test in mutant.tests.split()})
            code, words = run(python, folder, tests, HEALTHY_SECONDS)
            if code:
                print(words, "\nred without any bug", sep="")
                return 1
        return table(chosen, folder, python)


def table(chosen: list[Mutant], folder: Path, python: Path) -> int:
    """Plant and print; return the exit code."""
    through = 0
    for mutant in chosen:
        verdict, seconds = plant(mutant, folder, python)
        through += verdict.startswith(("SURVIVED", "DOES NOT FIT", "NO VERDICT"))
        print(f"{mutant.name:58} {mutant.breaks:28} {seconds:>6} {verdict}", flush=True)
    print(f"{len(chosen) - through} of {len(chosen)} planted bugs caught")
    return 1 if through or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
