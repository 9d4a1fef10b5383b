"""A commit as a contestant: its files in a temporary git worktree, its commands run with the libraries installed here.

Nothing inside a commit is relied on: only its command line, its environment variables, SQL and HTTP.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import httpx

from bench.contestants import DISPATCHER, ROOT, Contestant, Ready, environment
from bench.stack import output_of
from dispatcher.devstack.processes import free_port

MEASURED = ("dispatcher", "bench", "pyproject.toml", "requirements.txt")
"""The files that decide the figures, so they have to be committed."""
LIBRARIES = "requirements.txt"
WHERE = "import dispatcher; print(dispatcher.__file__)"


class Refused(Exception):
    """The comparison cannot begin; the message is one line and says the remedy."""


def git(*arguments: str) -> str:
    """Return what git says about our repository; CalledProcessError when git fails."""
    # A git hook that runs us sets GIT_DIR and GIT_INDEX_FILE, which would name another repository or index.
    variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-c", "core.hooksPath=/dev/null", "-C", str(ROOT), *arguments]
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=True).stdout.strip()


def commit_of(revision: str) -> str:
    """Return the full name of a commit."""
    try:
        git("rev-parse", "--git-dir")
    except (FileNotFoundError, subprocess.CalledProcessError):
        raise Refused(f"--against needs git, and {ROOT} as a git checkout: install git, clone the repository") from None
    try:
        return git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    except subprocess.CalledProcessError:
        raise Refused(
            f'no commit "{revision}" here: choose one that `git log --all` shows, or fetch it first'
        ) from None


def refuse_changes() -> None:
    """Raise Refused where the working tree differs from its commit: the result could not say what was measured."""
    changed = git("status", "--porcelain", "--", *MEASURED).splitlines()
    if changed:
        raise Refused(
            f"{len(changed)} uncommitted change(s), such as {changed[0].split()[-1]}: commit or stash them first"
        )


def other_libraries(revision: str, tree: str) -> bool:
    """Return whether the two commits pin different libraries; both run with those that are installed here."""
    return git("diff", "--name-only", revision, tree, "--", LIBRARIES) != ""


@contextmanager
def checked_out(*commits: str) -> Generator[list[Path]]:
    """Give each commit a worktree until the block ends."""
    with tempfile.TemporaryDirectory(prefix="dispatcher-bench-against-") as name:
        folders = [Path(name) / f"{number}-{commit[:7]}" for number, commit in enumerate(commits)]
        try:
            for folder, commit in zip(folders, commits, strict=True):
                git("worktree", "add", "--quiet", "--detach", str(folder), commit)
            yield folders
        finally:
            for folder in folders:
                with suppress(subprocess.CalledProcessError):  # an interrupted `add` may not have made one
                    git("worktree", "remove", "--force", "--force", str(folder))


@dataclass(frozen=True)
class Revision:
    """One commit: what the results call it, the name of its template database, and its checkout."""

    name: str
    template: str
    source: Path

    async def install(self, url: str) -> None:
        """Install into a database as this commit does; raise Refused where that fails."""
        variables = environment(self.source, {"DATABASE_URL": url})
        _, words = await output_of(self.source, sys.executable, "-c", WHERE, env=variables)
        if not Path(last_line(words)).is_relative_to(self.source):
            raise Refused(f"{self.name} has no package dispatcher: choose a later commit")
        code, words = await output_of(self.source, sys.executable, "-m", "dispatcher", "db", "install", env=variables)
        if code:
            failed = f"`dispatcher db install` of {self.name} failed (exit code {code}): {last_line(words)}"
            raise Refused(f"{failed}; choose another commit, or install what this one needs")

    def contestant(self) -> Contestant:
        """Return its `dispatcher run` for one block, with a port that is free now."""
        port = free_port()
        variables = {**DISPATCHER.environment, "DISPATCHER_HTTP_PORT": str(port)}
        return replace(
            DISPATCHER,
            name=self.name,
            template=self.template,
            prepare=self.install,
            ready=answers_ready(port),
            environment=variables,
            source=self.source,
        )


def answers_ready(port: int) -> Ready:
    """Return the check that asks /readyz."""

    async def ready(_: bytes) -> bool:
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=2) as client:
                return (await client.get(f"http://127.0.0.1:{port}/readyz")).is_success
        except httpx.TransportError:
            return False

    return ready


def last_line(words: str) -> str:
    """Return the last line of a command's output."""
    return (words.strip().splitlines() or ["it printed nothing"])[-1].strip()
