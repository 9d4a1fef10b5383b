"""`dispatcher config`: the settings, their values and their sources. Never prints a secret."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from dispatcher.cli.options import EnvFile

app = typer.Typer(no_args_is_help=True, help="Show the settings: their values, and a complete example.")

_TEMPORAL = """\
# Temporal's own variables have the same meaning as for its other tools. The usual ones:
#TEMPORAL_ADDRESS=localhost:7233
#TEMPORAL_NAMESPACE=default
#TEMPORAL_API_KEY=
"""


@app.command()
def show(
    origin: Annotated[bool, typer.Option("--origin", help="Also show where each value came from.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    env_file: EnvFile = Path(".env"),
) -> None:
    """Print every setting with the value that run would use; secrets are masked."""
    from dispatcher.cli.setting_origins import setting_origins
    from dispatcher.config.loading import load

    found = setting_origins(load(env_file))
    if as_json:
        plain = {each.variable: each.value for each in found}
        full = {each.variable: {"value": each.value, "source": each.source} for each in found}
        typer.echo(json.dumps(full if origin else plain, indent=2))
    else:
        typer.echo(_print_table([each if origin else each[:2] for each in found]))


@app.command("env-example")
def env_example() -> None:
    """Print a .env file with every variable, its meaning and its default. Fill in the lines that have no #."""
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
    """Return the rows with aligned columns. Of a value with several lines, such as a certificate, keep the first."""
    cells = [[cell.splitlines()[0] if cell else "-" for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in cells)
