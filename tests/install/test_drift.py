"""Every kind of drift is named object by object, and an upgrade puts right what can be put right."""

import pytest

from dispatcher.install import Options, inspect, install
from tests.install.live_database import Database

# A change to the database, and the difference that is reported for it.
DRIFTS = [
    ("drop trigger dispatcher_insert on notify.ent_notification", ["trigger dispatcher_insert: missing"]),
    (
        "alter table notify.ent_notification disable trigger dispatcher_update",
        ["trigger dispatcher_update: disabled"],
    ),
    (
        "alter table notify.ent_notification enable replica trigger dispatcher_update",
        ["trigger dispatcher_update: disabled"],
    ),
    (
        (
            "create or replace trigger dispatcher_update after update on notify.ent_notification"
            " for each row execute function dispatcher.ring_v2()"
        ),
        ["trigger dispatcher_update: changed"],
    ),
    (
        (
            "create or replace function dispatcher.ring_v2() returns trigger language plpgsql"
            " set search_path = pg_catalog, pg_temp as $$ begin return null; end $$"
        ),
        ["function dispatcher.ring_v2: changed"],
    ),
    ("alter function dispatcher.ring_v2() reset search_path", ["function dispatcher.ring_v2: changed"]),
    ("alter function dispatcher.ring_v2() security invoker", ["function dispatcher.ring_v2: changed"]),
    (
        "drop function dispatcher.ring_v2() cascade",
        [
            "function dispatcher.ring_v2: missing",
            "trigger dispatcher_insert: missing",
            "trigger dispatcher_update: missing",
        ],
    ),
    (
        "drop index notify.ent_notification_dispatcher_new_rows",
        ["outbox index ent_notification_dispatcher_new_rows: missing"],
    ),
    (
        (
            "drop index notify.ent_notification_dispatcher_new_rows;"  # as an earlier version has built it
            " create index ent_notification_dispatcher_new_rows on notify.ent_notification (id)"
            " where notification_status = 'PENDING' and publish_status = 'PUBLISH' and not deactivated"
            " and scheduled_for is null"
        ),
        ["outbox index ent_notification_dispatcher_new_rows: changed"],
    ),
    (
        (
            "update pg_index set indisvalid = false"
            " where indexrelid = 'notify.ent_notification_dispatcher_scheduled'::regclass"
        ),
        ["outbox index ent_notification_dispatcher_scheduled: invalid"],
    ),
    (
        (
            "alter index notify.ent_notification_dispatcher_processing rename to other;"
            " create index ent_notification_dispatcher_processing on notify.ent_notification (created_at)"
        ),
        ["outbox index ent_notification_dispatcher_processing: changed"],
    ),
    ("drop index dispatcher.delivery_lease", ["index dispatcher.delivery_lease: missing"]),
    (
        "drop table dispatcher.recipient",
        ["table dispatcher.recipient: missing", "index dispatcher.recipient_cancel: missing"],
    ),
    (
        "drop index notify.ent_notification_dispatcher_retracted",
        ["outbox index ent_notification_dispatcher_retracted: missing"],
    ),
    (
        "create index ent_notification_dispatcher_immediate on notify.ent_notification (id)",
        ["outbox index ent_notification_dispatcher_immediate: superseded"],
    ),
    (
        "delete from dispatcher.migration where name = '040_functions.sql'",
        ["file 040_functions.sql: missing (not recorded as applied)"],
    ),
    (
        "update dispatcher.migration set checksum = 'other' where name = '050_triggers.sql'",
        ["file 050_triggers.sql: changed (applied in another version)"],
    ),
]
BEYOND_REPAIR = [
    ("alter table dispatcher.delivery drop column last_error", "column dispatcher.delivery.last_error: missing"),
    (
        "alter table dispatcher.delivery alter column fence type integer",
        "column dispatcher.delivery.fence: changed (is integer not null, expected bigint not null)",
    ),
    (
        "alter table dispatcher.migration drop constraint migration_pkey",
        "constraint dispatcher.migration.migration_pkey: missing",
    ),
]


@pytest.mark.parametrize(("damage", "said"), DRIFTS)
async def test_drift_is_named_and_repaired(installed: Database, damage: str, said: list[str]) -> None:
    await installed.run(damage)
    assert [str(each) for each in await inspect(installed.url)] == said
    report = await install(installed.url)
    assert [str(each) for each in report.changed] == said
    assert report.remaining == []
    assert await inspect(installed.url) == []


@pytest.mark.parametrize(("damage", "said"), BEYOND_REPAIR[:2])
async def test_damaged_ledger_is_always_named(installed: Database, damage: str, said: str) -> None:
    await installed.run(damage)
    assert [str(each) for each in await inspect(installed.url)] == [said]
    assert [str(each) for each in (await install(installed.url)).remaining] == [said]


async def test_lost_primary_key_is_named(installed: Database) -> None:
    damage, said = BEYOND_REPAIR[2]
    await installed.run(damage)
    assert [str(each) for each in await inspect(installed.url)] == [said]


async def test_dropped_schema_is_one_difference_and_not_fifty(installed: Database) -> None:
    await installed.run("drop schema dispatcher cascade")
    found = await inspect(installed.url)
    assert [str(each) for each in found] == [
        "schema dispatcher: missing",
        "trigger dispatcher_insert: missing",
        "trigger dispatcher_update: missing",
    ]


async def test_additions_of_the_host_are_no_drift(installed: Database) -> None:
    await installed.run(
        "create index their_own on notify.ent_notification (tags)",
        "create function notify.touch() returns trigger language plpgsql as $$ begin return new; end $$",
        "create trigger touch before update on notify.ent_notification for each row execute function notify.touch()",
        "alter table notify.ent_notification add column extra text",
    )
    assert await inspect(installed.url) == []


async def test_f137_newer_installation_is_left_alone_with_a_warning(installed: Database) -> None:
    await installed.run(
        "insert into dispatcher.migration (name, checksum) values ('999_future.sql', 'x')",
        "create or replace function dispatcher.ring_v2() returns trigger language plpgsql as"
        " $$ begin return null; end $$",
    )
    before = await installed.catalogue()
    report = await install(installed.url)
    assert [str(each) for each in report.remaining] == ["file 999_future.sql: newer (not known to this version)"]
    assert "newer version" in report.warnings[0]
    assert await installed.catalogue() == before


async def test_db_status_changes_nothing(installed: Database) -> None:
    await installed.run("alter table notify.ent_notification disable trigger all")
    before = await installed.catalogue()
    assert await inspect(installed.url, Options()) != []
    assert await installed.catalogue() == before
