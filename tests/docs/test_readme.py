"""The README names every command there is, and every setting that it names exists."""

import re

from typer.main import get_command

from dispatcher.cli import app
from dispatcher.config.settings import Settings, variable_names
from tests.support.repository import text

README = text("README.md")


def test_settings_of_the_readme_exist():
    known = {name for field in Settings.model_fields for name in variable_names(field)}
    named = set(re.findall(r"\b(?:DISPATCHER|NOVU|SENTRY|DATABASE)_[A-Z_]+\b(?!…)", README))
    assert named
    assert named <= known


def test_every_command_is_in_the_readme():
    for name, command in get_command(app).commands.items():  # pyright: ignore[reportAttributeAccessIssue]
        assert f"dispatcher {name}" in README, name
        for part in getattr(command, "commands", {}):
            assert re.search(rf"`[^`\n]*\b{part}`", README), f"{name} {part}"


def test_procfile_is_the_one_of_the_readme():
    assert text("Procfile") in README
