"""`dispatcher db adopt`, `renew` and `release`: which installation a copied, moved or restored database holds."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from dispatcher.cli.options import LockTimeout, Outbox, Url, ask_confirmation, direct_url_from, options_from
from dispatcher.cli.output import say

if TYPE_CHECKING:
    from dispatcher.install import Identity

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def adopt(
    database_url: Url = None,
    outbox: Outbox = None,
    lock_timeout: LockTimeout = "3s",
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Say that this database is the original of its installation: it was moved, restored or upgraded.

    Dispatchers of this database go on at once. For a copy of the original use renew.
    """
    import anyio

    from dispatcher.install import adopt as bind

    url, options = direct_url_from(database_url), options_from(outbox, lock_timeout)
    if not yes:
        ask_confirmation("Is this the original database, and does no dispatcher use another copy of it?")
    result = anyio.run(bind, url, options, say)
    say(f"installation {result.installation} is bound to this database")
    print_result(result, "rows", as_json=as_json)


def renew(
    database_url: Url = None,
    outbox: Outbox = None,
    lock_timeout: LockTimeout = "3s",
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Make a copied database an installation of its own, with a new id and an empty ledger.

    Published rows that were not sent yet are deactivated, until release activates them again. Never use it on the
    original: it forgets what was sent to whom.
    """
    import anyio

    from dispatcher.install import renew as become_another

    url, options = direct_url_from(database_url), options_from(outbox, lock_timeout)
    if not yes:
        ask_confirmation(f"Empty the ledger of this copy, and hold the unsent rows of {options.outbox}?")
    result = anyio.run(become_another, url, options, say)
    say(f"this database has the new installation {result.installation}; {result.rows} rows are held")
    if options.installation is not None:
        say(f"set DISPATCHER_INSTALLATION={result.installation}")
    print_result(result, "held", as_json=as_json)


def release(
    database_url: Url = None,
    outbox: Outbox = None,
    lock_timeout: LockTimeout = "3s",
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Activate the rows again that renew has deactivated, so that they are sent."""
    import anyio

    from dispatcher.install import release as activate

    url, options = direct_url_from(database_url), options_from(outbox, lock_timeout)
    if not yes:
        ask_confirmation(f"Send the rows of {options.outbox} that renew has held?")
    result = anyio.run(activate, url, options, say)
    say(f"{result.rows} rows are active again")
    print_result(result, "released", as_json=as_json)


def print_result(result: "Identity", rows: str, *, as_json: bool) -> None:
    """With `as_json`, print the installation and the number of rows, under the name `rows`."""
    if as_json:
        typer.echo(json.dumps({"installation": str(result.installation), rows: result.rows}))
