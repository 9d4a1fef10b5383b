"""One database holds one outbox of ours: a second one is refused, a renamed, moved or restored one is not."""

import pytest

from dispatcher.install import Options, inspect, install, render, uninstall
from dispatcher.models.errors import ConfigurationError
from tests.install.live_database import Database

TWO = Options(outbox="two.outbox")
RECORDED = "select outbox, outbox_oid = 'notify.ent_notification'::regclass from dispatcher.installation"


async def create_second(database: Database) -> None:
    """Create a second outbox."""
    await database.run(
        "create schema two",
        "create table two.outbox (like notify.ent_notification including all)",
        "create table two.outbox_workflow (like notify.ent_notification_workflow including all)",
    )


async def test_f203_second_outbox_is_refused_and_nothing_is_changed(installed: Database) -> None:
    await create_second(installed)
    before = await installed.catalogue()
    for attempt in (install, inspect):
        with pytest.raises(ConfigurationError, match=r"belongs to the outbox notify\.ent_notification, not to two\.o"):
            await attempt(installed.url, TWO)
    assert await installed.catalogue() == before
    assert await inspect(installed.url) == []


async def test_f203_printed_sql_refuses_a_second_outbox_too(installed: Database) -> None:
    await create_second(installed)
    with pytest.raises(Exception, match=r"belongs to the outbox notify\.ent_notification"):
        await installed.run(render("install", TWO, "transaction"))
    await installed.run(render("install", piece="transaction"))
    assert await installed.run(RECORDED) == [("notify.ent_notification", True)]


async def test_f203_ledger_of_an_earlier_version_belongs_to_the_first_that_upgrades(installed: Database) -> None:
    await create_second(installed)
    await installed.run(
        "alter table dispatcher.installation drop column outbox, drop column outbox_oid, drop column bound_to",
        "delete from dispatcher.migration where name ~ '^029'",
    )
    await install(installed.url, TWO)
    assert await installed.run("select outbox from dispatcher.installation") == [("two.outbox",)]
    with pytest.raises(ConfigurationError, match=r"belongs to the outbox two\.outbox, not to notify\.ent_"):
        await install(installed.url)


@pytest.mark.parametrize(
    "change",
    [
        (
            "alter table notify.ent_notification rename to sendings;"
            " alter table notify.ent_notification_workflow rename to sendings_workflow"
        ),
        (
            "alter schema notify rename to moved; alter table moved.ent_notification rename to sendings;"
            " alter table moved.ent_notification_workflow rename to sendings_workflow"
        ),
        # As after a restore under another name: neither name nor oid is there any more.
        (
            "create table notify.sendings (like notify.ent_notification including all);"
            " drop table notify.ent_notification cascade;"
            " alter table notify.ent_notification_workflow rename to sendings_workflow"
        ),
    ],
    ids=["renamed", "moved", "gone"],
)
async def test_f204_renamed_outbox_is_the_same_one(installed: Database, change: str) -> None:
    await installed.run(change)
    name = "moved.sendings" if "moved" in change else "notify.sendings"
    assert (await install(installed.url, Options(outbox=name))).remaining == []
    assert await installed.run("select outbox from dispatcher.installation") == [(name,)]
    assert await inspect(installed.url, Options(outbox=name)) == []


async def test_f204_second_outbox_is_refused_beside_a_renamed_one(installed: Database) -> None:
    await create_second(installed)
    await installed.run("alter table notify.ent_notification rename to sendings")
    with pytest.raises(ConfigurationError, match=r"belongs to the outbox notify\.ent_notification, not to two\.outbox"):
        await install(installed.url, TWO)


async def test_f204_restored_outbox_is_recorded_again(installed: Database) -> None:
    await installed.run(
        "create table notify.copy (like notify.ent_notification including all)",
        "drop table notify.ent_notification cascade",
        "alter table notify.copy rename to ent_notification",
    )
    await install(installed.url)
    assert await installed.run(RECORDED) == [("notify.ent_notification", True)]
    # Another table can have the recorded oid then.
    await installed.run("update dispatcher.installation set outbox_oid = 'pg_class'::regclass")
    assert (await install(installed.url)).changed == []
    assert await installed.run(RECORDED) == [("notify.ent_notification", True)]


async def test_f204_name_that_now_belongs_to_another_table_is_kept_by_the_installer(installed: Database) -> None:
    """A new table takes the outbox's place, as some tools for large tables do it. The old one is the second then."""
    await installed.run(
        "alter table notify.ent_notification rename to old",
        "create table notify.ent_notification (like notify.old including all)",
        "create table notify.old_workflow (like notify.ent_notification_workflow including all)",
    )
    await install(installed.url)
    with pytest.raises(ConfigurationError, match="belongs to the outbox"):
        await install(installed.url, Options(outbox="notify.old"))


async def test_second_outbox_of_an_earlier_version_can_be_removed(installed: Database) -> None:
    await create_second(installed)
    await installed.run("update dispatcher.installation set outbox = null, outbox_oid = null")
    await install(installed.url, TWO)
    await installed.run("update dispatcher.installation set outbox = null, outbox_oid = null")
    await install(installed.url)
    with pytest.raises(ConfigurationError, match="leave out --ledger"):
        await uninstall(installed.url, Options(outbox="two.outbox", ledger=True))
    await uninstall(installed.url, TWO)
    assert await inspect(installed.url) == []
    assert await installed.run("select 1 from pg_trigger where tgrelid = 'two.outbox'::regclass") == []
