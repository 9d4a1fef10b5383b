"""`dispatcher version`: the installed versions, for a bug report."""

import json
import platform
from typing import Annotated

import typer

from dispatcher import __version__

_LIBRARIES = ("temporalio", "novu-py", "psycopg")


def version(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """Print the versions of Dispatcher, Python, and the client libraries of PostgreSQL, Temporal and Novu."""
    from importlib.metadata import version as version_of

    versions = {"dispatcher": __version__, "python": platform.python_version()}
    versions |= {library: version_of(library) for library in _LIBRARIES}
    if as_json:
        typer.echo(json.dumps(versions))
    else:
        typer.echo("\n".join(f"{name} {number}" for name, number in versions.items()))
