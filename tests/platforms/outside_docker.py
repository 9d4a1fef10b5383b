"""The image without an engine: the Dockerfile's own RUN lines, in a folder that holds what a build would be given."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.platforms.deploy_files import documents
from tests.support.repository import ROOT, text

NOBODY = 65534
PREFIX = "/opt/dispatcher"


def instructions() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions, continued lines joined."""
    lines = re.sub(r"\\\n\s*", "", text("docker/Dockerfile")).splitlines()
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines if line and line[0] != "#")]


def let_through() -> list[str]:
    """Return what the ignore file lets into the build: it forbids everything else."""
    rules = [line for line in text("docker/Dockerfile.dockerignore").splitlines() if line and line[0] != "#"]
    assert rules[0] == "*"
    return [rule[1:] for rule in rules if rule.startswith("!")]


def copied() -> Iterator[str]:
    """Return what the build stage copies from the context."""
    for word, rest in instructions():
        if word == "COPY" and "--from" not in rest:
            yield from (name.removeprefix("./") for name in rest.split()[:-1])


@dataclass(frozen=True)
class Image:
    """The result of the build stage, and how containers of it run."""

    root: Path

    @property
    def environment(self) -> dict[str, str]:
        """The environment by ENV of the last stage, in a container without a home."""
        path = f"{self.root}/bin:/usr/bin:/bin"
        return {"PATH": path, "HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}

    def start(self, command: list[str], settings: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
        """Run a container's command as a user who owns nothing and may write nowhere here."""
        program = shutil.which(command[0], path=self.environment["PATH"])
        assert program is not None, command
        assert program.startswith(str(self.root)), program
        root = os.geteuid() == 0
        with log.open("ab") as words:
            return subprocess.Popen(
                [program, *command[1:]],
                env=self.environment | settings,
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
                start_new_session=True,
                user=NOBODY if root else None,
                group=NOBODY if root else None,
                extra_groups=[] if root else None,
            )

    def run(self, command: list[str], settings: dict[str, str], log: Path) -> int:
        """Run a command to its end; return its exit code."""
        return self.start(command, settings, log).wait(60)

    @contextmanager
    def running(self, command: list[str], settings: dict[str, str], log: Path) -> Generator[subprocess.Popen[bytes]]:
        """Run a command for the block; what is still there then is ended by its pid."""
        process = self.start(command, settings, log)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(30)


def python_for_everybody() -> Path:
    """Return a Python of our version that the image's user can reach: that of root may be in a private folder."""
    ours = Path(sys.executable).resolve()
    for candidate in (ours, Path("/usr/bin") / ours.name, Path("/usr/local/bin") / ours.name):
        folders = candidate.resolve().parents
        if os.geteuid() != 0 or (candidate.exists() and all(each.stat().st_mode & 0o001 for each in folders)):
            return candidate
    pytest.fail(f"no {ours.name} that others than root can run: apt-get install {ours.name}", pytrace=False)


def build(folder: Path) -> Image:
    """Run the RUN lines of the build stage, with their folders in `folder`."""
    context = folder / "source"
    context.mkdir(parents=True)
    for name in copied():
        assert any(fnmatch(name, allowed) for allowed in let_through()), f"{name} does not get into the build"
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, context / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, context / name)
    image = Image(folder / "image")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "UV_COMPILE_BYTECODE": "1",
    }
    for command in build_steps():
        if command[:2] == ["uv", "venv"]:
            command += ["--python", str(python_for_everybody())]
        here = [word.replace(PREFIX, str(image.root)) for word in command]
        done = subprocess.run(here, cwd=context, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{here}\n{done.stderr}"
        environment["VIRTUAL_ENV"] = str(image.root)
    shutil.rmtree(context)
    return image


def build_steps() -> list[list[str]]:
    """Return the RUN lines of the stage that builds."""
    return [shlex.split(rest) for word, rest in instructions() if word == "RUN" and rest.startswith("uv ")]


def health_check() -> list[str]:
    """Return the image's own health check."""
    (rest,) = [rest for word, rest in instructions() if word == "HEALTHCHECK"]
    return json.loads(rest.partition(" CMD ")[2])


COMPOSE = documents("docker/compose.yaml")[0]


def defaults() -> dict[str, str]:
    """Return what docker/defaults.env says."""
    lines = [line for line in text("docker/defaults.env").splitlines() if line and line[0] != "#"]
    return dict(line.split("=", 1) for line in lines)
