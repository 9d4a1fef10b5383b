"""A schema `dispatcher` that is not ours, or that was changed by hand, ends in a sentence and never in a traceback."""

import anyio
import pytest

from dispatcher.install import inspect, install, plan, uninstall, verify_notify
from dispatcher.models.errors import ConfigurationError, DispatcherError
from tests.install.live_database import Database

# A change that somebody made to an installed database, and the sentence about it.
STRANGE = [
    (
        "drop table dispatcher.delivery; create view dispatcher.delivery as select 1 as notification_id",
        "dispatcher.delivery is a view",
    ),
    ("drop table dispatcher.node; create materialized view dispatcher.node as select 1", "is a materialized view"),
    (
        (
            "drop table dispatcher.migration; create foreign data wrapper w; create server s foreign data wrapper w;"
            " create foreign table dispatcher.migration (name text, checksum text, applied_at timestamptz) server s"
        ),
        "dispatcher.migration is a foreign table",
    ),
    (
        (
            "drop schema dispatcher cascade; create schema dispatcher;"
            " create table dispatcher.migration (id serial primary key, app text, name text, applied timestamptz)"
        ),
        "dispatcher.migration has other columns",
    ),
    ("alter table dispatcher.migration drop column checksum", "dispatcher.migration has other columns"),
    ("alter table dispatcher.action set unlogged", "dispatcher.action is unlogged"),
    ("create table dispatcher.child () inherits (dispatcher.recipient)", "recipient is a partition, inherits"),
    ("drop table dispatcher.node; create domain dispatcher.node as text", "dispatcher.node is a type"),
    ("drop table dispatcher.node; create sequence dispatcher.node", "dispatcher.node is a sequence"),
    ("drop table dispatcher.node; create type dispatcher.node as (id text)", "dispatcher.node is a type"),
    (
        "drop table dispatcher.node; create table dispatcher.node (id text) partition by list (id)",
        "dispatcher.node is a partitioned table",
    ),
    ("alter extension plpgsql add table dispatcher.node", "dispatcher.node belongs to an extension"),
]
# The installer finds these in the middle of its work.
CHANGED = [
    ("drop index dispatcher.delivery_lease; alter table dispatcher.delivery drop column batch cascade", "batch"),
    (
        (
            "drop function dispatcher.ring_v2 cascade; create function dispatcher.ring_v2() returns text"
            " language sql return 'x'"
        ),
        "cannot change return type",
    ),
    (
        (
            "delete from dispatcher.migration where name like '05%';"
            " alter table dispatcher.migration alter column checksum type integer using 1"
        ),
        "invalid input syntax for type integer",
    ),
    (
        (
            "delete from dispatcher.migration where name like '05%'; alter table dispatcher.migration"
            " add column by_whom text; update dispatcher.migration set by_whom = 'x';"
            " alter table dispatcher.migration alter column by_whom set not null"
        ),
        "violates not-null constraint",
    ),
]
WITHOUT_KEY = [
    "alter table dispatcher.migration drop constraint migration_pkey",
    "alter table dispatcher.installation drop constraint installation_pkey",
]


@pytest.mark.parametrize(("done", "said"), STRANGE)
async def test_f219_strange_object_in_place_of_a_table_is_named(installed: Database, done: str, said: str) -> None:
    await installed.run(*done.split(";"))
    before = await installed.catalogue()
    for attempt in (install, inspect, plan):
        with pytest.raises(ConfigurationError, match=said) as caught:
            await attempt(installed.url)
        assert "\n" not in str(caught.value)
        assert "restore our table from a backup" in str(caught.value)
    assert await installed.catalogue() == before


@pytest.mark.parametrize(("done", "said"), CHANGED)
async def test_f219_upgrade_that_postgresql_refuses_is_a_sentence(installed: Database, done: str, said: str) -> None:
    await installed.run(*done.split(";"))
    before = await installed.catalogue()
    with pytest.raises(ConfigurationError, match=said) as caught:
        await install(installed.url)
    assert "\n" not in str(caught.value)
    assert "dispatcher db status" in str(caught.value)
    assert await installed.catalogue() == before
    assert await inspect(installed.url) != []


@pytest.mark.parametrize("done", WITHOUT_KEY)
async def test_f219_table_without_its_key_is_not_written_to(installed: Database, done: str) -> None:
    await installed.run(done)
    with pytest.raises(ConfigurationError, match="lacks its primary key"):
        await install(installed.url)
    assert await installed.run("select count(*) from dispatcher.installation") == [(1,)]
    assert [each.kind for each in await inspect(installed.url)] == ["constraint"]


@pytest.mark.parametrize("damage", [done for done, _ in STRANGE + CHANGED] + WITHOUT_KEY)
async def test_f219_no_command_ends_with_a_traceback(installed: Database, damage: str) -> None:
    await installed.run(*damage.split(";"))
    for attempt in (plan, inspect, verify_notify, install, uninstall):
        try:
            with anyio.fail_after(15):
                await attempt(installed.url)
        except DispatcherError as error:
            assert "\n" not in str(error)  # noqa: PT017  (some of them work)
