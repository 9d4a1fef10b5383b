"""`db sql`: what psql makes of it is what the installer makes."""

from datetime import timedelta

import anyio
import psycopg
import pytest

from dispatcher.devstack.postgres import PostgresServer
from dispatcher.install import Options, inspect, install, plan, render
from tests.install.live_database import Database

QUOTED = Options(outbox='notify."Ent""Notif"')


async def psql(server: PostgresServer, database: Database, text: str, *options: str) -> str:
    """Run `text` in psql and return what it printed."""
    command = [str(server.binaries / "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", *options, database.url, "-f", "-"]
    done = await anyio.run_process(command, input=text.encode())
    return done.stdout.decode()


@pytest.mark.parametrize("options", [(), ("-1",)])
async def test_psql_installs_the_same_objects_as_the_installer(
    postgres_server: PostgresServer, empty_database: Database, installed: Database, options: tuple[str, ...]
) -> None:
    from dispatcher.install import create_dev_schema

    await create_dev_schema(empty_database.url)
    assert await psql(postgres_server, empty_database, render("install"), *options) == ""
    assert await empty_database.definitions() == await installed.definitions()
    assert await inspect(empty_database.url) == []
    assert not (await install(empty_database.url)).changed


async def test_both_parts_run_separately(postgres_server: PostgresServer, database: Database) -> None:
    await psql(postgres_server, database, render("install", piece="transaction"), "-1")
    assert {each.kind for each in await inspect(database.url)} == {"outbox index", "file"}
    await psql(postgres_server, database, render("install", piece="indexes"))
    assert await inspect(database.url) == []


@pytest.mark.parametrize("options", [(), ("-1",)])
async def test_hostile_defaults_do_not_change_what_psql_installs(
    postgres_server: PostgresServer, database: Database, options: tuple[str, ...]
) -> None:
    for default in (
        "default_transaction_isolation = serializable",
        "standard_conforming_strings = off",
        "search_path = nowhere",
        "default_transaction_read_only = on",
    ):
        await database.run(f"alter database {database.name} set {default}")
    pieces = [("transaction", options), ("indexes", ())] if options else [("all", ())]
    for piece, how in pieces:
        await psql(postgres_server, database, render("install", piece=piece), *how)
    assert await inspect(database.url) == []


async def test_failing_statement_rolls_everything_back(postgres_server: PostgresServer, database: Database) -> None:
    before = await database.definitions()
    missing = render("install", Options(outbox="notify.missing"))
    with pytest.raises(Exception, match="exit status 3"):
        await psql(postgres_server, database, missing)
    assert await database.definitions() == before
    assert await database.run("select 1 from pg_namespace where nspname = 'dispatcher'") == []


@pytest.mark.parametrize("ledger", [False, True])
async def test_psql_removes_the_installation(
    postgres_server: PostgresServer, installed: Database, *, ledger: bool
) -> None:
    for _ in range(2):
        await psql(postgres_server, installed, render("uninstall", Options(ledger=ledger)))
    assert await installed.run("select 1 from pg_trigger where not tgisinternal") == []
    schema = await installed.run("select 1 from pg_namespace where nspname = 'dispatcher'")
    assert schema == ([] if ledger else [(1,)])


async def test_plan_has_the_statements_to_run_or_none(postgres_server: PostgresServer, installed: Database) -> None:
    assert await plan(installed.url) == ([], "")
    await installed.run("alter table notify.ent_notification disable trigger dispatcher_insert")
    found, text = await plan(installed.url)
    assert [each.problem for each in found] == ["disabled"]
    assert "create or replace trigger" in text
    assert "create table" not in text
    await psql(postgres_server, installed, text)
    assert await inspect(installed.url) == []


async def test_psql_installers_exclude_each_other(postgres_server: PostgresServer, database: Database) -> None:
    from dispatcher.install.session import ADVISORY_LOCK

    with psycopg.connect(database.url, autocommit=True) as other:
        other.execute("select pg_advisory_lock(%s)", (ADVISORY_LOCK,))
        with pytest.raises(Exception, match="exit status 3"):
            await psql(postgres_server, database, render("install"))


async def test_psql_install_gives_up_its_lock_for_writers(postgres_server: PostgresServer, database: Database) -> None:
    text = render("install", Options(lock_timeout=timedelta(milliseconds=200)))
    async with await database.connect() as writer:
        await writer.execute("begin")
        await writer.execute("lock table notify.ent_notification in row exclusive mode")
        with anyio.fail_after(10), pytest.raises(Exception, match="exit status 3"):
            await psql(postgres_server, database, text)


@pytest.mark.parametrize("action", ["install", "upgrade", "uninstall"])
def test_rendered_text_is_deterministic_sql_without_psql_commands(action: str) -> None:
    text = render(action, QUOTED)
    assert text == render(action, QUOTED)
    assert not [line for line in text.splitlines() if line.startswith("\\")]
    assert '"notify"."Ent""Notif"' in text
    assert "{" not in text.replace("'{}'", "")
