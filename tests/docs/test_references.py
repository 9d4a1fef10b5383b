"""The references in docs/ are what the code says. Run as a program, this file writes them."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from pydantic_core import PydanticUndefined
from typer.main import get_command

from dispatcher.cli import app
from dispatcher.config.durations import format_duration
from dispatcher.config.settings import Settings, variable_names
from tests.platforms.declared_metrics import Declared, of_the_database, of_the_process
from tests.support.repository import ROOT

DOCS = ROOT / "docs"

COMMANDS = """# Commands

Data goes to stdout, words to stderr. Exit codes: 0 fine, 1 a check failed, 2 usage or configuration, 3 something is
unreachable, 130 interrupted. `dispatcher COMMAND --help` tells the same.
"""

SETTINGS = """# Settings

Environment variables, or lines of a `.env` file. An XNovu `.env` works unchanged; its names stand last. Durations:
`500ms`, `10s`, `5m`, `2h`, `PT30S`. `dispatcher config show --origin` says what came from where; an unknown
`DISPATCHER_…` name is an error that names the nearest known one.

`TEMPORAL_ADDRESS`, `TEMPORAL_NAMESPACE`, `TEMPORAL_API_KEY`, `TEMPORAL_TLS…` and profiles are Temporal's own.
"""

METRICS = """# Metrics

The metrics that `/metrics` of `dispatcher run` and `dispatcher web` shows, in Prometheus's format.
"""


def commands() -> str:
    """Return the reference of the command line."""
    lines = [COMMANDS.rstrip()]
    for words, command in every("dispatcher", get_command(app)):
        lines += ["", f"## {words}", "", "```", usage(words, command), "```", "", *told(command.help)]
        options = [each for each in command.params if each.name != "help" and each.param_type_name == "option"]
        if options:
            lines += ["", "| option | |", "|---|---|", *(option(each) for each in options)]
    return "\n".join(lines) + "\n"


def every(words: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Yield the commands below this one, in the order of the help."""
    for name, inner in getattr(command, "commands", {}).items():
        if hasattr(inner, "commands"):
            yield from every(f"{words} {name}", inner)
        else:
            yield f"{words} {name}", inner


def usage(words: str, command: Any) -> str:
    arguments = [argument(each) for each in command.params if each.param_type_name == "argument"]
    return " ".join([words, *arguments])


def argument(each: Any) -> str:
    shown = (each.metavar or each.name).upper() + ("..." if each.nargs == -1 else "")
    return shown if each.required else f"[{shown}]"


def told(text: str) -> list[str]:
    return [line.strip() for line in text.strip().splitlines()]


def option(each: Any) -> str:
    names = ", ".join(f"`{name}`" for name in (*each.opts, *each.secondary_opts))
    return f"| {names} | {each.help} |"


def settings() -> str:
    """Return the reference of the settings."""
    lines = [SETTINGS, "| variable | default | |", "|---|---|---|"]
    for field, about in Settings.model_fields.items():
        ours, *theirs = variable_names(field)
        also = f" XNovu: {', '.join(f'`{name}`' for name in theirs)}." if theirs else ""
        lines.append(f"| `{ours}` | {default(about.default)} | {about.description}{also} |")
    return "\n".join(lines) + "\n"


def default(value: Any) -> str:
    """Return a default as one would write it into a `.env` file."""
    if value is PydanticUndefined:
        return "needed"
    if value in (None, ()):
        return ""
    if isinstance(value, timedelta):
        return f"`{format_duration(value)}`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def metrics() -> str:
    """Return the reference of the metrics."""
    lines = [METRICS.rstrip()]
    for title, found in {
        "Of the process": of_the_process(),
        "Of the outbox and the ledger: any process tells them": of_the_database(),
    }.items():
        lines += ["", f"## {title}", "", "| metric | kind | labels | |", "|---|---|---|---|"]
        lines += [f"| `{name(each)}` | {each.kind} | {', '.join(each.labels)} | {each.about} |" for each in found]
    return "\n".join(lines) + "\n"


def name(metric: Declared) -> str:
    return metric.name + ("_total" if metric.kind == "counter" else "")


PAGES: dict[str, Callable[[], str]] = {"commands.md": commands, "settings.md": settings, "metrics.md": metrics}


@pytest.mark.parametrize("page", PAGES)
def test_generated_reference_is_up_to_date(page: str):
    assert (DOCS / page).read_text() == PAGES[page](), "python -m tests.docs.test_references writes it"


if __name__ == "__main__":
    for title, write in PAGES.items():
        (DOCS / title).write_text(write())
