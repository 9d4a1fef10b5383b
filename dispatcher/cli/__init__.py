"""The command line: each command reads its options, calls another package, and prints the result.

Every module here is cheap to import: a command imports its other packages only when it is called, so that `--help`
answers at once. Data goes to stdout, messages to stderr. Exit codes: 0 success, 1 a check failed, 2 usage or
configuration, 3 something is unreachable, 130 interrupted.
"""

from typing import Annotated

import typer

from dispatcher.cli import config, db, worker
from dispatcher.cli.change import retract, retry
from dispatcher.cli.demo import demo
from dispatcher.cli.dev import dev
from dispatcher.cli.doctor import doctor
from dispatcher.cli.healthcheck import healthcheck
from dispatcher.cli.rows import list_, show, tail
from dispatcher.cli.run import run
from dispatcher.cli.send_test import send_test
from dispatcher.cli.status import status
from dispatcher.cli.sweep import sweep
from dispatcher.cli.version import version
from dispatcher.cli.web import web

app = typer.Typer(
    name="dispatcher",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,  # its tracebacks can show local variables, and secrets among them
    epilog="Settings are environment variables or lines of .env in this folder: see dispatcher config env-example.",
)


def _print_version_and_exit(wanted: bool) -> None:
    if wanted:
        version()
        raise typer.Exit


@app.callback()
def dispatcher(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version_and_exit, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Send every notification committed to a Postgres outbox through Temporal to Novu.

    Start here:

    dispatcher demo: see it work, on this machine alone
    dispatcher config env-example > .env: get all settings
    dispatcher db install: add triggers to your table
    dispatcher run: send notifications until it is stopped
    dispatcher send-test: send one notification and follow it
    dispatcher status: show rows, dispatchers and triggers
    dispatcher doctor: check every part, and get a remedy for each problem
    """


app.command("run")(run)
app.command("web")(web)
app.command("healthcheck")(healthcheck)
app.command("doctor")(doctor)
app.command("status")(status)
app.command("list")(list_)
app.command("show")(show)
app.command("tail")(tail)
app.command("retry")(retry)
app.command("retract")(retract)
app.command("send-test")(send_test)
app.command("sweep")(sweep)
app.command("dev")(dev)
app.command("demo")(demo)
app.add_typer(db.app, name="db")
app.add_typer(config.app, name="config")
app.add_typer(worker.app, name="worker")
app.add_typer(worker.app, name="daemon", help="The same as worker.")
app.command("version")(version)
