"""Odd names: quoted everywhere, of limited length, and usable for NOTIFY."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.config.table_names import MAX_NAME_BYTES, OutboxTable, Table, parse_outbox_name
from dispatcher.install import Options, inspect, install, render, render_grants, uninstall
from dispatcher.install.files import INDEXES
from dispatcher.models.errors import ConfigurationError
from tests.install.live_database import Database

ODD = [
    ("Mixed", 'Ent"Notif'),
    ("notify", "UPPER"),
    ("select", "table"),
    ("büro", "Meldungen 📣"),
    ("s" * 63, "t" * 54),
    ("dots", "a.b"),
    ("per%cent", "per%s{brace}"),
    ("dispatcher_too", "dispatcher"),
]
identifiers = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=54
).filter(lambda text: len(text.encode()) <= 54)


@pytest.mark.parametrize(
    ("text", "schema", "name"),
    [
        ("notify.ent_notification", "notify", "ent_notification"),
        ("notify.Ent", "notify", "Ent"),
        ('notify."Ent""Notif"', "notify", 'Ent"Notif'),
        ('"a.b"."c.d"', "a.b", "c.d"),
    ],
)
def test_table_name_is_read_as_written_and_quoted_as_sql_reads_it(text: str, schema: str, name: str) -> None:
    assert parse_outbox_name(text) == OutboxTable(schema, name)


@pytest.mark.parametrize("text", ["", "ent_notification", "a.b.c", 'a."b', 'a.""', ".b", "a.", 'a."b\0"'])
def test_malformed_table_name_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"is not schema\.table"):
        parse_outbox_name(text)


def test_f17_too_long_table_names_are_refused() -> None:
    parse_outbox_name(f"{'s' * 63}.{'t' * 54}")
    with pytest.raises(ConfigurationError, match="64 bytes, PostgreSQL keeps 63"):
        parse_outbox_name(f"{'s' * 64}.t")
    with pytest.raises(ConfigurationError, match="64 bytes"):
        parse_outbox_name(f"s.{'t' * 55}")  # no room for …_workflow
    with pytest.raises(ConfigurationError, match="bytes"):
        parse_outbox_name(f"s.{'ü' * 28}")


@given(identifiers, identifiers)
def test_table_name_survives_writing_and_reading(schema: str, name: str) -> None:
    assert parse_outbox_name(str(OutboxTable(schema, name))) == OutboxTable(schema, name)


@given(identifiers, identifiers)
def test_derived_names_fit_the_limit_and_differ(one: str, other: str) -> None:
    names = [OutboxTable("s", one).index(purpose) for purpose in INDEXES]
    assert all(len(name.encode()) <= MAX_NAME_BYTES for name in names)
    assert len(set(names)) == len(names)
    if one != other:
        assert OutboxTable("s", one).index("scheduled") != OutboxTable("s", other).index("scheduled")


@pytest.mark.parametrize(("schema", "name"), ODD)
async def test_f17_odd_table_name_is_installed_notified_and_removed(database: Database, schema: str, name: str) -> None:
    outbox = OutboxTable(schema, name)
    host, beside = sql_name(outbox), sql_name(outbox.workflow)
    await database.run(
        f"create schema if not exists {sql_part(schema)}",
        f"create table {host} (like notify.ent_notification including all)",
        f"create table {beside} (like notify.ent_notification_workflow including all)",
    )
    options = Options(outbox=str(outbox))
    assert not (await install(database.url, options)).remaining
    assert await inspect(database.url, options) == []
    assert not (await install(database.url, options)).changed
    insert = f"insert into {host} (name, payload, recipients, publish_status) values ('n', '{{}}', '{{}}', 'PUBLISH')"
    assert await database.count_notifies(insert) == 1
    assert sql_name(outbox) in render("install", options)
    await database.run(render_grants(str(outbox), "postgres"))
    await uninstall(database.url, options)
    assert await database.count_notifies(insert.replace("'n'", "'m'")) == 0
    assert await database.run("select 1 from pg_trigger where not tgisinternal") == []
    assert await database.run("select 1 from pg_indexes where indexname ~ '_dispatcher_(imm|sch|proc)'") == []


async def test_function_used_by_another_outbox_is_kept(installed: Database) -> None:
    await installed.run(
        "create schema two",
        "create table two.outbox (like notify.ent_notification including all)",
        "create table two.outbox_workflow (like notify.ent_notification_workflow including all)",
    )
    await installed.run("update dispatcher.installation set outbox = null, outbox_oid = null")  # as earlier versions
    await install(installed.url, Options(outbox="two.outbox"))
    with pytest.raises(ConfigurationError, match="still in use, nothing was removed"):
        await uninstall(installed.url, Options(outbox="two.outbox"))
    assert await inspect(installed.url, Options(outbox="two.outbox")) == []
    await uninstall(installed.url)
    assert await inspect(installed.url, Options(outbox="two.outbox")) == []


def sql_name(table: Table) -> str:
    return f"{sql_part(table.schema)}.{sql_part(table.name)}"


def sql_part(part: str) -> str:
    return '"' + part.replace('"', '""') + '"'
