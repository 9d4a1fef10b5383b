"""A wheel built from the tree holds all files that the program reads, and runs where the checkout is not.

The source is copied without the top-level link `sql`, as an archive without links unpacks it.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.support.repository import ROOT

BUILD_INPUT = ("pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the tree. The copy is deleted."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    shutil.copytree(ROOT / "dispatcher", source / "dispatcher", ignore=shutil.ignore_patterns("__pycache__"))
    for name in BUILD_INPUT:
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(built)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    shutil.rmtree(source)
    [wheel] = built.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a fresh environment with the wheel. The dependencies are those of this environment."""
    home = tmp_path_factory.mktemp("installed") / "venv"
    scripts = Path(sys.executable).parent
    subprocess.run([scripts / "uv", "venv", "--quiet", "--python", sys.executable, home], check=True, timeout=120)
    install = [scripts / "uv", "pip", "install", "--quiet", "--offline", "--no-deps", "--python", home, wheel]
    subprocess.run(install, check=True, timeout=120)
    [packages] = home.glob("lib/*/site-packages")
    # A .pth file adds the folder only: the .pth file there, which leads to the checkout, has no effect.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return home / "bin/python"


def run(python: Path, *command: str) -> str:
    """Run a command of the environment in its own folder, and return what it printed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "DISPATCHER"))}
    done = subprocess.run(
        [python.parent / command[0], *command[1:]],
        cwd=python.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_wheel_holds_every_file_of_the_package(wheel: Path):
    files = (path for path in (ROOT / "dispatcher").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    expected = {path.relative_to(ROOT).as_posix() for path in files}
    assert {"dispatcher/postgres/queries/claim.sql", "dispatcher/install/sql/010_schema.sql"} <= expected
    assert expected <= set(zipfile.ZipFile(wheel).namelist())


def test_installed_wheel_is_imported_and_not_the_checkout(python: Path):
    place = run(python, "python", "-c", "import dispatcher; print(dispatcher.__file__)")
    assert Path(place.strip()).is_relative_to(python.parent.parent)


def test_installed_wheel_prints_the_sql_of_the_installation(python: Path):
    assert (
        run(python, "dispatcher", "db", "sql", "install")
        == subprocess.run(
            [sys.executable, "-m", "dispatcher", "db", "sql", "install"], capture_output=True, text=True, check=True
        ).stdout
    )


def test_installed_wheel_composes_every_statement(python: Path):
    program = (
        "from psycopg import sql; from dispatcher.postgres.pool import StatusColumn;"
        " from dispatcher.postgres.statements import TableNames, compose_statements;"
        " names = TableNames(sql.Identifier('outbox'), sql.Identifier('workflow'));"
        " print(len(compose_statements(names, StatusColumn('text', frozenset()), allow_list=False)))"
    )
    assert int(run(python, "python", "-c", program)) > 20
