"""`dispatcher db`: install our SQL in the outbox's database, compare it with this version, remove it.

Data goes to stdout, messages to stderr. Exit codes: 0 success, 1 something differs, 2 usage or configuration,
3 unreachable.
"""

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dispatcher.cli import db_identity, db_prune
from dispatcher.cli.options import (
    LockTimeout,
    NoIndex,
    Outbox,
    Url,
    ask_confirmation,
    direct_url_from,
    duration_from,
    options_from,
    setting,
    url_from,
)
from dispatcher.cli.output import say

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dispatcher.install import Difference, Options

app = typer.Typer(no_args_is_help=True, help="Install our triggers, indexes and ledger; check and remove them.")

for _command in (db_identity.adopt, db_identity.renew, db_identity.release, db_prune.prune):
    app.command()(_command)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
def install(
    database_url: Url = None,
    outbox: Outbox = None,
    no_index: NoIndex = False,
    lock_timeout: LockTimeout = "3s",
    dev_schema: Annotated[
        bool, typer.Option("--dev-schema", help="First create XNovu's schema notify, if it does not exist.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Install or repair triggers, indexes and ledger. Run it as often as you like: it changes only what differs."""
    import anyio

    from dispatcher.install import create_dev_schema

    url = direct_url_from(database_url)
    if dev_schema and anyio.run(create_dev_schema, url):
        say("created XNovu's schema notify with seed rows")
    repair(url, options_from(outbox, lock_timeout, no_index=no_index), as_json=as_json)


@app.command()
def upgrade(
    database_url: Url = None,
    outbox: Outbox = None,
    no_index: NoIndex = False,
    lock_timeout: LockTimeout = "3s",
    dry_run: Annotated[bool, typer.Option("--dry-run", "--plan", help="Only print the SQL that would run.")] = False,
    as_json: AsJson = False,
) -> None:
    """Bring an installation to this version. A newer installation is not changed, and a warning is printed."""
    import anyio

    from dispatcher.install import plan

    url, options = direct_url_from(database_url), options_from(outbox, lock_timeout, no_index=no_index)
    if not dry_run:
        repair(url, options, as_json=as_json)
        return
    found, text = anyio.run(plan, url, options)
    print_summary("would repair", found)
    document = {"differences": as_json_value(found), "sql": text}
    typer.echo(json.dumps(document, indent=2) if as_json else text, nl=as_json)


@app.command()
def uninstall(
    database_url: Url = None,
    outbox: Outbox = None,
    lock_timeout: LockTimeout = "3s",
    ledger: Annotated[bool, typer.Option("--ledger", help="Also drop the record of what was sent to whom.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove our triggers, their function and our indexes. The ledger stays, unless --ledger is given."""
    import anyio

    from dispatcher.install import uninstall as remove

    url, options = direct_url_from(database_url), options_from(outbox, lock_timeout, ledger=ledger)
    parts = "triggers, function, indexes" + (" and the whole schema dispatcher" if ledger else "")
    if not yes:
        ask_confirmation(f"Remove {parts} of {options.outbox}?")
    anyio.run(remove, url, options, say)
    say(f"removed {parts}" + ("" if ledger else "; the ledger in schema dispatcher stays"))
    if as_json:
        typer.echo(json.dumps({"removed": True, "ledger": ledger}))


@app.command()
def status(database_url: Url = None, outbox: Outbox = None, no_index: NoIndex = False, as_json: AsJson = False) -> None:
    """Compare the installation with this version, and show how large it is. Exit code 1 if something differs."""
    import anyio

    from dispatcher.install import inspect, read_sizes

    url, options = url_from(database_url), options_from(outbox, no_index=no_index)
    found, sizes = anyio.run(inspect, url, options), anyio.run(read_sizes, url, options)
    if sizes:
        say("sizes with indexes: " + ", ".join(f"{each.table} {each.text}" for each in sizes))
    print_differences(found, {"bytes": {each.table: each.bytes for each in sizes}}, as_json=as_json)


@app.command()
def verify(database_url: Url = None, outbox: Outbox = None, no_index: NoIndex = False, as_json: AsJson = False) -> None:
    """Compare as status does, then commit once and check that its NOTIFY reaches our LISTEN connection.

    The commit goes to a temporary table with the installed trigger function, so it writes no row of yours. It tests the
    function, NOTIFY and the LISTEN connection. The comparison tests that the outbox has the triggers.
    """
    from functools import partial

    import anyio

    from dispatcher.install import inspect, verify_notify

    url, options = url_from(database_url), options_from(outbox, no_index=no_index)
    found = anyio.run(inspect, url, options)
    if any(each.kind in {"schema", "function"} for each in found):
        print_differences(found, {"doorbell_ms": None}, as_json=as_json)
        return
    listen_url = None if database_url else setting("DISPATCHER_LISTEN_DATABASE_URL")
    took = anyio.run(partial(verify_notify, url, options, listen_url=listen_url))
    milliseconds = round(took / timedelta(milliseconds=1), 1)
    say(f"NOTIFY arrived after {milliseconds} ms")
    print_differences(found, {"doorbell_ms": milliseconds}, as_json=as_json)


@app.command()
def wait(
    database_url: Url = None,
    limit: Annotated[str, typer.Option("--timeout", help="How long to wait.")] = "60s",
    as_json: AsJson = False,
) -> None:
    """Wait until the database answers. Exit code 3 if it does not in time."""
    import anyio

    from dispatcher.install import wait_until_ready as wait_for

    anyio.run(wait_for, url_from(database_url), duration_from(limit, "--timeout"))
    if as_json:
        typer.echo(json.dumps({"reachable": True}))


@app.command("after-restore")
def after_restore(database_url: Url = None, as_json: AsJson = False) -> None:
    """Say that the database lost its newest commits: rows that are due now are looked up at Novu before they are sent.

    Run it after a restore that Dispatcher cannot notice, such as a snapshot or a dump, before the first process starts.
    """
    import anyio

    from dispatcher.install import mark_restored

    at = anyio.run(mark_restored, url_from(database_url))
    say(f"rows that were due before {at} are looked up at Novu before their first call; later ones go out at once")
    if as_json:
        typer.echo(json.dumps({"restored_at": at}))


@app.command("sql")
def show_sql(  # noqa: PLR0917  (Typer's)
    action: Annotated[
        Literal["install", "upgrade", "uninstall", "grants"], typer.Argument(help="The SQL to print.")
    ] = "install",
    part: Annotated[
        Literal["all", "transaction", "indexes"],
        typer.Option(
            "--part", help="transaction: the part for psql -1. indexes: the part that cannot run in a transaction."
        ),
    ] = "all",
    outbox: Outbox = None,
    no_index: NoIndex = False,
    lock_timeout: LockTimeout = "3s",
    ledger: Annotated[bool, typer.Option("--ledger", help="With uninstall: also drop our schema.")] = False,
    role: Annotated[str | None, typer.Option("--role", help="With grants: the role that runs dispatcher.")] = None,
    operator: Annotated[
        bool, typer.Option("--operator", help="With grants: also the rights for retry, retract and send-test.")
    ] = False,
) -> None:
    """Print the SQL that a command would run, for psql -v ON_ERROR_STOP=1. Connects to nothing.

    grants prints the rights that the role of dispatcher run needs, and no others.
    """
    from dispatcher.install import render, render_grants
    from dispatcher.models.errors import ConfigurationError

    options = options_from(outbox, lock_timeout, no_index=no_index, ledger=ledger)
    if action != "grants":
        typer.echo(render(action, options, part), nl=False)
    elif role:
        typer.echo(render_grants(options.outbox, role, operator=operator), nl=False)
    else:
        raise ConfigurationError("grants needs --role NAME: the role that dispatcher run connects as")


def repair(url: str, options: "Options", *, as_json: bool) -> None:
    """Install, and print what changed. Exit code 1 if something still differs and this version could repair it."""
    import anyio

    from dispatcher.install import install

    report = anyio.run(install, url, options, say)
    newer = any(each.problem == "newer" for each in report.remaining)
    if as_json:
        document = {
            "changed": as_json_value(report.changed),
            "remaining": as_json_value(report.remaining),
            "warnings": report.warnings,
        }
        typer.echo(json.dumps(document, indent=2))
    for warning in report.warnings:
        say(f"warning: {warning}")
    print_summary("repaired", report.changed)
    print_summary("still differs", report.remaining)
    if not report.changed and not report.remaining:
        say(f"{options.outbox}: nothing to do")
    if report.remaining and not newer:
        raise typer.Exit(1)


def print_differences(found: "list[Difference]", more: dict[str, object], *, as_json: bool) -> None:
    """Print the differences to stdout, as JSON together with `more`. Exit code 1 if there are any."""
    if as_json:
        typer.echo(json.dumps({"ok": not found, "differences": as_json_value(found), **more}, indent=2))
    else:
        for each in found:
            typer.echo(str(each))
    if found:
        say("run dispatcher db upgrade to repair what it can")
        raise typer.Exit(1)
    say("the installation is as this version expects")


def as_json_value(found: "Iterable[Difference]") -> list[dict[str, str]]:
    """Return differences as `json.dumps` takes them."""
    return [vars(each) for each in found]


def print_summary(label: str, found: "Iterable[Difference]") -> None:
    """Print the differences to stderr, each with the label before it."""
    for each in found:
        say(f"{label}: {each}")
