"""The README knows every setting and every command there is.

Run as a program, this file writes the settings table.
"""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic_core import PydanticUndefined
from typer.main import get_command

from dispatcher.cli import app
from dispatcher.environment.durations import format_duration
from dispatcher.settings import Settings, variables

PATH = Path(__file__).parent.parent / "README.md"
README = PATH.read_text()
BEGIN, END = "<!-- settings -->\n", "<!-- /settings -->"


def shown(default: Any) -> str:
    """Return a default as one would write it into a `.env` file."""
    if default is PydanticUndefined:
        return "needed"
    if default in (None, ()):
        return ""
    if isinstance(default, timedelta):
        return f"`{format_duration(default)}`"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def table() -> str:
    """Return the settings table."""
    lines = ["| variable | default | |", "|---|---|---|"]
    for field, about in Settings.model_fields.items():
        ours, *theirs = variables(field)
        also = f" XNovu: {', '.join(f'`{name}`' for name in theirs)}." if theirs else ""
        lines.append(f"| `{ours}` | {shown(about.default)} | {about.description}{also} |")
    return "\n".join(lines) + "\n"


def test_the_settings_table_is_what_the_settings_are():
    assert README.partition(BEGIN)[2].partition(END)[0] == table()


def test_every_command_is_in_the_readme():
    for name, command in get_command(app).commands.items():  # pyright: ignore[reportAttributeAccessIssue]
        assert f"dispatcher {name}" in README, name
        for part in getattr(command, "commands", {}):
            assert re.search(rf"`[^`\n]*\b{part}`", README), f"{name} {part}"


def test_the_procfile_is_the_one_in_the_readme():
    assert (Path(__file__).parent.parent / "Procfile").read_text() in README


if __name__ == "__main__":
    before, _, rest = README.partition(BEGIN)
    PATH.write_text(before + BEGIN + table() + END + rest.partition(END)[2])
