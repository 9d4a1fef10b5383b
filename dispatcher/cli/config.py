"""`dispatcher config`: what is set, where it came from, and everything that can be set. Never prints a secret."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="See what is set, and everything that can be set.")

_TEMPORAL = """\
# Temporal's own variables are read as its other tools read them; these are the usual ones.
#TEMPORAL_ADDRESS=localhost:7233
#TEMPORAL_NAMESPACE=default
#TEMPORAL_API_KEY=
"""


@app.command()
def show(
    origin: Annotated[bool, typer.Option("--origin", help="Also say where each value came from.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    env_file: Annotated[
        Path, typer.Option("--env-file", help="Read settings from this file too; the environment wins.")
    ] = Path(".env"),
) -> None:
    """Print every setting as it would be used now, secrets masked."""
    from dispatcher.cli.setting_origins import setting_origins
    from dispatcher.config.loading import load

    found = setting_origins(load(env_file))
    if as_json:
        plain = {one.variable: one.value for one in found}
        full = {one.variable: {"value": one.value, "source": one.source} for one in found}
        typer.echo(json.dumps(full if origin else plain, indent=2))
    else:
        typer.echo(_print_table([one if origin else one[:2] for one in found]))


@app.command("env-example")
def env_example() -> None:
    """Print a .env file with every variable, its meaning and its default; fill in the lines without a #."""
    typer.echo("\n".join(_example_lines()) + f"\n{_TEMPORAL}", nl=False)


def _example_lines() -> Iterator[str]:
    from dispatcher.cli.setting_origins import display_value
    from dispatcher.config.settings import Settings, variable_names

    for field, about in Settings.model_fields.items():
        variable, *others = variable_names(field)
        yield f"# {about.description}"
        if others:
            yield f"# Also read from {', '.join(others)} of XNovu."
        default = "" if about.is_required() else display_value(field, about.get_default())
        example = str(about.examples[0]) if about.examples and not default else default
        yield f"{'' if field in {'database_url', 'novu_secret_key'} else '#'}{variable}={example}"
        yield ""


def _print_table(rows: Sequence[Sequence[str]]) -> str:
    """Align the columns; of a value with several lines, such as a certificate, print the first."""
    cells = [[cell.splitlines()[0] if cell else "-" for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in cells)
