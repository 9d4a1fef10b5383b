"""When the doorbell rings, and when it must not."""

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


async def test_a_committed_insert_rings_once(installed: Database) -> None:
    assert await installed.rings(DUE) == 1


def test_the_channel_has_one_name() -> None:
    assert CHANNEL == "dispatcher"


async def test_a_transaction_of_many_statements_rings_once(installed: Database) -> None:
    assert (
        await installed.rings("begin", DUE, DUE, "update notify.ent_notification set scheduled_for = now()", "commit")
        == 1
    )


async def test_a_copy_of_a_thousand_rows_rings_once(installed: Database) -> None:
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
async def test_a_row_that_is_not_eligible_is_silent_until_it_is(installed: Database, changes: str) -> None:
    column, value = changes.split(" = ")
    insert = (
        "insert into notify.ent_notification (name, payload, recipients, publish_status, notification_status,"
        " deactivated, scheduled_for) select 'x', '{}', '{}', publish_status, notification_status, deactivated,"
        " scheduled_for from ready"
    )
    ready = (
        "create temporary table ready as select 'PUBLISH'::shared_types.publish_status as publish_status,"
        " 'PENDING'::shared_types.notification_status as notification_status, false as deactivated,"
        " null::timestamptz as scheduled_for"
    )
    assert await installed.rings(ready, f"update ready set {column} = {value}", insert) == 0
    right = "publish_status = 'PUBLISH', notification_status = 'PENDING', deactivated = false, scheduled_for = null"
    assert await installed.rings(f"update notify.ent_notification set {right}") == 1


async def test_a_scheduled_row_rings_because_it_may_be_the_next_due(installed: Database) -> None:
    scheduled = DUE.replace("publish_status)", "publish_status, scheduled_for)").replace(
        "'PUBLISH')", "'PUBLISH', now() + interval '1 day')"
    )
    assert await installed.rings(scheduled) == 1


async def test_publishing_a_draft_rings_once(installed: Database) -> None:
    publish = "update notify.ent_notification set publish_status = 'PUBLISH'"
    assert await installed.rings(DRAFT, DRAFT, publish) == 1


async def test_rescheduling_rings_and_unscheduling_too(installed: Database) -> None:
    later = "update notify.ent_notification set scheduled_for = now() + interval '1 hour'"
    never = "update notify.ent_notification set scheduled_for = 'infinity'"
    now = "update notify.ent_notification set scheduled_for = null"
    assert await installed.rings(DUE, later, never, now) == 3


async def test_a_resend_rings(installed: Database) -> None:
    await installed.run(DUE, "update notify.ent_notification set notification_status = 'FAILED'")
    assert await installed.rings("update notify.ent_notification set notification_status = 'PENDING'") == 1


async def test_the_way_to_sent_and_other_columns_are_silent(installed: Database) -> None:
    await installed.run(DUE)
    update = "update notify.ent_notification set notification_status = "
    steps = (update + "'PROCESSING'", update + "'SENT'", "update notify.ent_notification set payload = '[]'")
    assert await installed.rings("update notify.ent_notification set tags = '{a}'", *steps) == 0


async def test_a_rolled_back_insert_is_silent(installed: Database) -> None:
    assert await installed.rings("begin", DUE, "rollback") == 0


async def test_quiet_silences_one_transaction(installed: Database) -> None:
    assert await installed.rings("begin", "set local dispatcher.quiet = on", DUE, "commit") == 0
    assert await installed.rings("begin", "set local dispatcher.quiet = on", DUE, "commit", DUE) == 1


async def test_a_quiet_producer_can_prepare_its_transaction(installed: Database) -> None:
    prepare = ("begin", "set local dispatcher.quiet = on", DUE, "prepare transaction 'two-phase'")
    assert await installed.rings(*prepare, "commit prepared 'two-phase'") == 0


async def test_s30_a_producer_who_may_only_insert_can_ring(installed: Database) -> None:
    await installed.run(
        "do $$ begin if to_regrole('install_producer') is null then create role install_producer; end if; end $$",
        "grant usage on schema notify, shared_types to install_producer",
        "grant insert on notify.ent_notification to install_producer",
    )
    assert await installed.rings("set role install_producer", DUE, "reset role") == 1


async def test_the_trigger_never_raises_and_rather_rings(installed: Database) -> None:
    await installed.run("alter type shared_types.notification_status rename value 'PENDING' to 'WAITING'")
    assert await installed.rings(DUE) == 1


async def test_f136_nobody_elses_objects_are_called(installed: Database) -> None:
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
    assert await installed.rings(hostile, "create temporary table inserted (id int)", DUE, DRAFT, publish) == 2


async def test_f136_an_installation_under_a_hostile_search_path_is_the_same(database: Database) -> None:
    await database.run(
        "create schema attacker",
        "create function attacker.pg_notify(text, text) returns void language sql as 'select null'",
    )
    await database.run(f"alter database {database.name} set search_path = attacker, pg_catalog")
    await install(database.url)
    assert await database.rings(DUE) == 1


async def test_the_probe_hears_the_doorbell_and_leaves_no_row(installed: Database) -> None:
    before = await installed.catalogue()
    assert await verify_notify(installed.url) < timedelta(seconds=5)
    assert await installed.run("select count(*) from notify.ent_notification") == [(0,)]
    assert await installed.catalogue() == before


async def test_the_probe_is_heard_beside_a_dispatcher_that_is_awake(installed: Database) -> None:
    await installed.run(
        "insert into dispatcher.node (id, role, host, version, mode, in_flight, awake_until)"
        " values ('n', 'all', 'h', '1', 'EVENT', 0, now() + interval '1 minute')"
    )
    assert await verify_notify(installed.url) < timedelta(seconds=5)


async def test_the_probe_notices_a_function_that_does_not_ring(installed: Database) -> None:
    await installed.run(
        "create or replace function dispatcher.ring_v1() returns trigger language plpgsql as"
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


async def test_the_probe_names_what_is_missing(database: Database) -> None:
    with pytest.raises(CheckFailed, match="not installed: run dispatcher db install"):
        await verify_notify(database.url)
