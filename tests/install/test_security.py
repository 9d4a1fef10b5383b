"""Hostile neighbours in the database: producers, hidden rows, objects with the catalogue's names."""

from collections.abc import AsyncIterator

import psycopg
import pytest

from dispatcher.install import inspect, install
from dispatcher.models.errors import ConfigurationError
from dispatcher.postgres.pool import open_pool
from tests.install.live_database import Database

PRODUCER, OWNER = "install_only_producer", "install_only_owner"
DUE = """
insert into notify.ent_notification (name, payload, recipients, publish_status)
values ('due', '{}', '{}', 'PUBLISH')
"""
FUNCTIONS = """
select proname, prosecdef, proconfig, pg_get_functiondef(p.oid), rolname
from pg_proc p join pg_roles r on r.oid = proowner where pronamespace = 'dispatcher'::regnamespace
"""


@pytest.fixture
async def roles(installed: Database) -> AsyncIterator[Database]:
    """A producer that may only insert, and an owner of the tables that is no superuser."""
    for role in (PRODUCER, OWNER):
        await installed.run(
            f"do $$ begin if to_regrole('{role}') is null then create role {role} login; end if; end $$"
        )
    await installed.run(
        f"grant usage on schema notify to {PRODUCER}", f"grant insert on notify.ent_notification to {PRODUCER}"
    )
    yield installed
    for role in (PRODUCER, OWNER):
        await installed.run(f"reassign owned by {role} to postgres", f"drop owned by {role}")


async def as_role(database: Database, role: str) -> psycopg.AsyncConnection[tuple[object, ...]]:
    return await psycopg.AsyncConnection.connect(database.url.replace("postgres@", f"{role}@"), autocommit=True)


async def test_s01_s02_functions_have_a_fixed_search_path_and_no_dynamic_sql(installed: Database) -> None:
    functions = await installed.run(FUNCTIONS)
    assert [row[0] for row in functions] == ["applied_files_v1", "ring_v1", "ring_v2"]
    for _, definer, settings, text, _ in functions:
        assert definer, "it reads our node table, on which producers have no right"
        assert settings == ["search_path=pg_catalog, pg_temp"]
        assert "execute" not in text.lower().split("as $function$")[1]
    triggers = await installed.run(
        "select tgname, tgfoid::regproc::text from pg_trigger where not tgisinternal order by 1"
    )
    assert triggers == [("dispatcher_insert", "dispatcher.ring_v2"), ("dispatcher_update", "dispatcher.ring_v2")]


REFUSED = {
    "see the ledger": "select * from dispatcher.delivery",
    "see the nodes": "select * from dispatcher.node",
    "muffle the bell": "update dispatcher.node set awake_until = 'infinity'",
    "call the doorbell": "select dispatcher.ring_v2()",
    "use it in a trigger of its own": (
        "create temporary table mine (id int);"
        " create trigger mine after insert on mine for each statement execute function dispatcher.ring_v2()"
    ),
    "read the outbox": "select * from notify.ent_notification",
    "change the outbox": "update notify.ent_notification set payload = '{}'",
    "put something into our schema": "create table dispatcher.mine ()",
    "switch the triggers off": "alter table notify.ent_notification disable trigger user",
    "skip the triggers": "set session_replication_role = replica",
}


async def test_s30_producer_with_insert_right_alone_can_do_nothing_else(roles: Database) -> None:
    async with await as_role(roles, PRODUCER) as producer:
        await producer.execute(DUE)
        allowed: list[str] = []
        for name, statement in REFUSED.items():
            try:
                await producer.execute(statement.encode())
            except psycopg.errors.InsufficientPrivilege:
                continue
            allowed.append(name)
        assert allowed == []
    assert await roles.count_notifies(f"set role {PRODUCER}", DUE.replace("'due'", "'again'"), "reset role") == 1


async def test_f136_hostile_objects_are_not_called_by_our_sessions(roles: Database) -> None:
    await roles.run(
        "create schema attacker",
        "create function attacker.now() returns timestamptz language plpgsql as $$ begin raise 'hijacked'; end $$",
        "create function attacker.pg_notify(text, text) returns void language plpgsql as"
        " $$ begin raise 'hijacked'; end $$",
        "create function attacker.same(text, text) returns boolean language plpgsql as"
        " $$ begin raise 'hijacked'; end $$",
        "create operator attacker.= (function = attacker.same, leftarg = text, rightarg = text)",
        f"alter database {roles.name} set search_path = attacker, pg_catalog, public",
    )
    async with await roles.connect() as victim:
        with pytest.raises(psycopg.errors.RaiseException, match="hijacked"):
            await victim.execute("select now()")
    pool = await open_pool(roles.url)
    try:
        async with pool.connection() as connection:
            await connection.execute("select now(), pg_notify('dispatcher', ''), 'a'::text = 'b'::text")
            # A temporary table comes after the catalogue too.
            await connection.execute("create temporary table pg_class (mine int)")
            assert (await (await connection.execute("select relname from pg_class limit 1")).fetchone()) is not None
    finally:
        await pool.close(timeout=2)
    assert await inspect(roles.url) == []


@pytest.mark.parametrize("forced", [False, True])
async def test_f135_row_security_that_hides_rows_is_refused(roles: Database, *, forced: bool) -> None:
    await roles.run(
        f"alter table notify.ent_notification owner to {OWNER}",
        f"alter table notify.ent_notification_workflow owner to {OWNER}",
        f"grant all on schema notify, dispatcher to {OWNER}",
        f"grant select on all tables in schema dispatcher to {OWNER}",
        f"grant {OWNER} to postgres",
        "alter table notify.ent_notification enable row level security",
        *(["alter table notify.ent_notification force row level security"] if forced else []),
    )
    url = roles.url.replace("postgres@", f"{OWNER}@")
    assert await inspect(roles.url) == [], "a superuser sees everything"
    if not forced:
        assert await inspect(url) == []
        return
    for attempt in (inspect, install):
        with pytest.raises(
            ConfigurationError, match=rf"row-level security hides rows of notify\.ent_notification from role {OWNER}"
        ):
            await attempt(url)
    await roles.run(f"alter role {OWNER} bypassrls")
    try:
        assert await inspect(url) == []
    finally:
        await roles.run(f"alter role {OWNER} nobypassrls")
