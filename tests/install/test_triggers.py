"""Which statements send a NOTIFY, and which must not."""

from datetime import timedelta

import anyio
import pytest

from dispatcher.install import CHANNEL, Options, install, verify_notify
from dispatcher.models.errors import CheckFailed
from tests.install.live_database import Database

DUE = """
insert into notify.ent_notification (name, payload, recipients, publish_status)
values ('due', '{}', '{}', 'PUBLISH')
"""
DRAFT = "insert into notify.ent_notification (name, payload, recipients) values ('draft', '{}', '{}')"


async def test_committed_insert_sends_one_notify(installed: Database) -> None:
    assert await installed.count_notifies(DUE) == 1


def test_channel_has_one_name() -> None:
    assert CHANNEL == "dispatcher"


async def test_transaction_of_many_statements_sends_one_notify(installed: Database) -> None:
    assert (
        await installed.count_notifies(
            "begin", DUE, DUE, "update notify.ent_notification set scheduled_for = now()", "commit"
        )
        == 1
    )


async def test_copy_of_a_thousand_rows_sends_one_notify(installed: Database) -> None:
    async with await installed.connect() as listener, await installed.connect() as producer:
        await listener.execute("listen dispatcher")
        columns = "copy notify.ent_notification (name, payload, recipients, publish_status) from stdin"
        async with producer.cursor().copy(columns) as copy:
            for number in range(1000):
                await copy.write_row((f"copied {number}", "{}", "{}", "PUBLISH"))
        await producer.execute("notify dispatcher, 'the end'")
        payloads = [notify.payload async for notify in listener.notifies(timeout=20, stop_after=2)]
    assert payloads == ["", "the end"]


@pytest.mark.parametrize(
    "changes",
    [
        "publish_status = 'DRAFT'",
        "deactivated = true",
        "scheduled_for = 'infinity'",
        "notification_status = 'SENT'",
        "notification_status = 'RETRACTED'",
    ],
)
async def test_update_sends_no_notify_until_the_row_is_eligible(installed: Database, changes: str) -> None:
    await installed.run(DUE)
    assert await installed.count_notifies(f"update notify.ent_notification set {changes}") == 0
    right = "publish_status = 'PUBLISH', notification_status = 'PENDING', deactivated = false, scheduled_for = null"
    assert await installed.count_notifies(f"update notify.ent_notification set {right}") == 1


async def test_scheduled_row_sends_a_notify(installed: Database) -> None:
    scheduled = DUE.replace("publish_status)", "publish_status, scheduled_for)").replace(
        "'PUBLISH')", "'PUBLISH', now() + interval '1 day')"
    )
    assert await installed.count_notifies(scheduled) == 1


async def test_insert_sends_one_notify_whatever_its_rows_are(installed: Database) -> None:
    """A NOTIFY too many costs nothing; to look at the rows costs producers 5 to 11 % of their rate."""
    assert await installed.count_notifies(DRAFT) == 1
    assert (
        await installed.count_notifies(DRAFT.replace("values (", "select ").replace("'{}')", "'{}' where false")) == 1
    )


async def test_insert_sends_no_notify_while_a_node_is_awake(installed: Database) -> None:
    await installed.run(
        "insert into dispatcher.node (id, role, host, version, mode, in_flight, awake_until)"
        " values ('n', 'all', 'h', '1', 'EVENT', 0, now() + interval '1 minute')"
    )
    assert await installed.count_notifies(DUE, DRAFT) == 0
    assert await installed.count_notifies("begin isolation level repeatable read", DUE, "commit") == 1


async def test_insert_trigger_collects_no_rows(installed: Database) -> None:
    tables = "select tgnewtable, tgoldtable from pg_trigger where tgname like 'dispatcher\\_%'"
    assert await installed.run(tables) == [(None, None), (None, None)]


async def test_publishing_a_draft_sends_one_notify(installed: Database) -> None:
    publish = "update notify.ent_notification set publish_status = 'PUBLISH'"
    await installed.run(DRAFT, DRAFT)
    assert await installed.count_notifies(publish) == 1


async def test_rescheduling_and_unscheduling_send_a_notify(installed: Database) -> None:
    later = "update notify.ent_notification set scheduled_for = now() + interval '1 hour'"
    never = "update notify.ent_notification set scheduled_for = 'infinity'"
    now = "update notify.ent_notification set scheduled_for = null"
    assert await installed.count_notifies(DUE, later, never, now) == 3


async def test_resend_sends_a_notify(installed: Database) -> None:
    await installed.run(DUE, "update notify.ent_notification set notification_status = 'FAILED'")
    assert await installed.count_notifies("update notify.ent_notification set notification_status = 'PENDING'") == 1


async def test_our_status_changes_and_other_columns_send_no_notify(installed: Database) -> None:
    await installed.run(DUE)
    update = "update notify.ent_notification set notification_status = "
    steps = (update + "'PROCESSING'", update + "'SENT'", "update notify.ent_notification set payload = '[]'")
    assert await installed.count_notifies("update notify.ent_notification set tags = '{a}'", *steps) == 0


async def test_rolled_back_insert_sends_no_notify(installed: Database) -> None:
    assert await installed.count_notifies("begin", DUE, "rollback") == 0


async def test_quiet_suppresses_notify_in_one_transaction(installed: Database) -> None:
    assert await installed.count_notifies("begin", "set local dispatcher.quiet = on", DUE, "commit") == 0
    assert await installed.count_notifies("begin", "set local dispatcher.quiet = on", DUE, "commit", DUE) == 1


async def test_quiet_transaction_can_be_prepared(installed: Database) -> None:
    prepare = ("begin", "set local dispatcher.quiet = on", DUE, "prepare transaction 'two-phase'")
    assert await installed.count_notifies(*prepare, "commit prepared 'two-phase'") == 0


async def test_s30_producer_with_insert_right_alone_sends_a_notify(installed: Database) -> None:
    await installed.run(
        "do $$ begin if to_regrole('install_producer') is null then create role install_producer; end if; end $$",
        "grant usage on schema notify, shared_types to install_producer",
        "grant insert on notify.ent_notification to install_producer",
    )
    assert await installed.count_notifies("set role install_producer", DUE, "reset role") == 1


async def test_trigger_sends_notify_instead_of_raising(installed: Database) -> None:
    await installed.run("alter type shared_types.notification_status rename value 'PENDING' to 'WAITING'")
    assert await installed.count_notifies(DUE) == 1


async def test_f136_objects_of_other_schemas_are_not_called(installed: Database) -> None:
    await installed.run(
        "create schema attacker",
        "create function attacker.pg_notify(text, text) returns void language plpgsql as"
        " $$ begin raise exception 'hijacked'; end $$",
        "create function attacker.current_setting(text, boolean) returns text language plpgsql as"
        " $$ begin raise exception 'hijacked'; end $$",
        "create function attacker.same(shared_types.publish_status, shared_types.publish_status)"
        " returns boolean language plpgsql as $$ begin raise exception 'hijacked'; end $$",
        "create operator attacker.= (function = attacker.same, leftarg = shared_types.publish_status,"
        " rightarg = shared_types.publish_status)",
    )
    hostile = "set search_path = attacker, pg_catalog"
    publish = "update notify.ent_notification set publish_status = 'PUBLISH', scheduled_for = now()"
    assert await installed.count_notifies(hostile, "create temporary table inserted (id int)", DUE, DRAFT, publish) == 3


async def test_f136_installation_under_a_hostile_search_path_is_the_same(database: Database) -> None:
    await database.run(
        "create schema attacker",
        "create function attacker.pg_notify(text, text) returns void language sql as 'select null'",
    )
    await database.run(f"alter database {database.name} set search_path = attacker, pg_catalog")
    await install(database.url)
    assert await database.count_notifies(DUE) == 1


async def test_verify_receives_the_notify_and_leaves_no_row(installed: Database) -> None:
    before = await installed.catalogue()
    assert await verify_notify(installed.url) < timedelta(seconds=5)
    assert await installed.run("select count(*) from notify.ent_notification") == [(0,)]
    assert await installed.catalogue() == before


async def test_verify_receives_the_notify_beside_an_awake_dispatcher(installed: Database) -> None:
    await installed.run(
        "insert into dispatcher.node (id, role, host, version, mode, in_flight, awake_until)"
        " values ('n', 'all', 'h', '1', 'EVENT', 0, now() + interval '1 minute')"
    )
    assert await verify_notify(installed.url) < timedelta(seconds=5)


async def test_verify_detects_a_function_without_notify(installed: Database) -> None:
    await installed.run(
        "create or replace function dispatcher.ring_v2() returns trigger language plpgsql as"
        " $$ begin return null; end $$"
    )
    async with await installed.connect() as stranger, anyio.create_task_group() as tasks:

        async def ring_for_ever() -> None:
            while True:
                await stranger.execute("notify dispatcher")

        tasks.start_soon(ring_for_ever)
        with pytest.raises(CheckFailed, match="did not arrive"):
            await verify_notify(installed.url, Options(), patience=timedelta(milliseconds=300))
        tasks.cancel_scope.cancel()


async def test_verify_names_missing_objects(database: Database) -> None:
    with pytest.raises(CheckFailed, match="not installed: run dispatcher db install"):
        await verify_notify(database.url)
