"""An installation is bound to its database: a copy and a restored outbox are noticed, and a person's word is kept."""

from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from dispatcher.devstack.postgres import PostgresServer
from dispatcher.install import Options, adopt, inspect, install, release, render, renew
from dispatcher.models.errors import ConfigurationError
from dispatcher.postgres.installation import Installation, read_installation
from tests.install.live_database import Database
from tests.support.databases import restored_copy

OURS = '{"successCount": 1, "outcome": "SENT", "generation": 1, "attempts": 1}'
XNOVUS = '{"successCount": 1, "totalRecipients": 1, "results": [], "novu_transaction_ids": [], "timestamp": "x"}'


@pytest.fixture
async def copy(installed: Database, postgres_server: PostgresServer) -> AsyncIterator[Database]:
    """Return a copy of an installed database, restored from its dump."""
    async with restored_copy(postgres_server, installed.url) as url:
        yield Database(url)


async def installation_of(database: Database) -> Installation:
    """Return what the database holds."""
    async with await database.connect() as connection:
        return await read_installation(connection)


async def insert(database: Database, status: str, details: str | None = None, **columns: str) -> int:
    """Insert a published row; return its id."""
    found = f"'{details}'" if details else "null"
    names = "".join(f", {name}" for name in columns)
    values = "".join(f", {value}" for value in columns.values())
    [[row]] = await database.run(
        "insert into notify.ent_notification (name, payload, recipients, publish_status, notification_status,"
        f" error_details{names}) values ('n', '{{}}', '{{}}', 'PUBLISH', '{status}',"
        f" {found}{values}) returning id"
    )
    return row


async def test_f205_installation_is_bound_by_the_command_and_by_the_printed_sql(database: Database) -> None:
    await install(database.url)
    bound = await installation_of(database)
    assert bound.bound_to == bound.marks
    assert set(bound.marks) == {"database", "table", "system"}
    await database.run("update dispatcher.installation set bound_to = null")
    await database.run(render("install", piece="transaction"))
    assert (await installation_of(database)).bound_to == bound.marks


async def test_f205_upgrade_of_a_copy_names_the_ways_out_and_binds_nothing(installed: Database, copy: Database) -> None:
    before = await installation_of(installed)
    found = await installation_of(copy)
    assert found.id == before.id
    assert found.is_elsewhere
    report = await install(copy.url)
    assert report.remaining == []
    [warning] = report.warnings
    assert (
        f"DISPATCHER_INSTALLATION={before.id} or run dispatcher db adopt; for a copy run dispatcher db renew" in warning
    )
    assert len(warning) < 300
    assert (await installation_of(copy)).bound_to == before.bound_to
    assert await inspect(copy.url) == []


async def test_f205_mark_that_one_side_does_not_know_is_not_compared(installed: Database) -> None:
    await installed.run("revoke execute on function pg_control_system from public")
    await installed.run(
        "do $$ begin if to_regrole('looks') is null then create role looks login; end if; end $$",
        "grant usage on schema dispatcher to looks",
        "grant select on dispatcher.installation to looks",
    )
    looks = await installation_of(Database(installed.url.replace("postgres@", "looks@")))
    assert set(looks.marks) == {"database", "table"}
    assert not looks.is_elsewhere
    await installed.run("""update dispatcher.installation set bound_to = bound_to - 'database' || '{"system": "1"}'""")
    assert not (await installation_of(Database(installed.url.replace("postgres@", "looks@")))).is_elsewhere
    assert (await installation_of(installed)).is_elsewhere, "as after pg_upgrade"


async def test_f206_setting_adopts_the_original_without_a_person(copy: Database) -> None:
    found = await installation_of(copy)
    assert (await install(copy.url, Options(installation=found.id))).warnings == []
    adopted = await installation_of(copy)
    assert (adopted.id, adopted.bound_to) == (found.id, found.marks)
    assert (await install(copy.url)).warnings == []
    [warning] = (await install(copy.url, Options(installation=uuid4()))).warnings
    assert "else correct the setting" in warning
    assert len(warning) < 300


async def test_f206_person_adopts_the_original(copy: Database) -> None:
    found = await installation_of(copy)
    assert (await adopt(copy.url)).installation == found.id
    assert (await installation_of(copy)).mismatch(None) is None
    [[detail]] = await copy.run("select detail::jsonb ->> 'before' from dispatcher.action where action = 'adopt'")
    assert detail == str(found.id)
    await copy.run(
        "insert into dispatcher.delivery (notification_id, birth, generation, fence, first_claimed_at,"
        " claimed_at) values (1, 'b', 1, 1, now(), now())"
    )
    with pytest.raises(ConfigurationError, match="correct or remove the setting"):
        await adopt(copy.url, Options(installation=uuid4()))


async def test_f207_renewed_copy_forgets_what_the_original_did_and_holds_unsent_rows(copy: Database) -> None:
    before = await installation_of(copy)
    unsent = [
        await insert(copy, "PENDING"),
        await insert(copy, "PENDING", scheduled_for="'2999-01-01'"),
        await insert(copy, "PROCESSING"),
    ]
    off = await insert(copy, "PENDING", deactivated="true")
    sent = await insert(copy, "SENT", OURS)
    await copy.run(
        "insert into dispatcher.delivery (notification_id, birth, generation, fence, first_claimed_at,"
        f" claimed_at) values ({sent}, 'b', 1, 1, now(), now())"
    )
    renewed = await renew(copy.url)
    assert renewed.rows == 3
    after = await installation_of(copy)
    assert (after.id, after.mismatch(None)) == (renewed.installation, None)
    assert after.id != before.id
    assert await copy.run("select 1 from dispatcher.delivery") == []
    rows = "select id, notification_status::text, deactivated from notify.ent_notification order by id"
    held = [(each, "PENDING", True) for each in unsent]
    assert await copy.run(rows) == [*held, (off, "PENDING", True), (sent, "SENT", False)]
    assert (await install(copy.url)).warnings == [], "an upgrade afterwards asks nothing"
    assert (await release(copy.url)).rows == 3
    assert await copy.run(rows) == [
        *((each, "PENDING", False) for each in unsent),
        (off, "PENDING", True),
        (sent, "SENT", False),
    ]


async def test_f208_outbox_that_came_without_its_ledger_wants_a_decision(installed: Database) -> None:
    original = (await installation_of(installed)).id
    await insert(installed, "SENT", OURS)
    waiting = await insert(installed, "PENDING")
    await installed.run("drop schema dispatcher cascade")
    with pytest.raises(ConfigurationError, match=r"the ledger is empty.*dispatcher db adopt.*dispatcher db renew"):
        await install(installed.url)
    assert await installed.run("select 1 from pg_namespace where nspname = 'dispatcher'") == []
    assert (await adopt(installed.url, Options(installation=original))).installation == original
    assert (await install(installed.url)).warnings == []
    await installed.run("drop schema dispatcher cascade")
    assert (await renew(installed.url)).rows == 1
    assert (await install(installed.url)).warnings == []
    assert await installed.run("select id from notify.ent_notification where deactivated") == [(waiting,)]


async def test_f208_ledger_that_was_installed_before_the_outbox_came_wants_it_too(installed: Database) -> None:
    await insert(installed, "SENT", OURS)
    with pytest.raises(ConfigurationError, match="the ledger is empty"):
        await install(installed.url)


async def test_outcomes_of_xnovu_are_none_of_ours(database: Database) -> None:
    await insert(database, "SENT", XNOVUS)
    await insert(database, "FAILED", "[]")
    await insert(database, "FAILED", '"text"')
    assert (await install(database.url)).remaining == []


async def test_new_ledger_gets_the_id_of_the_setting(database: Database) -> None:
    wanted = UUID(int=7)
    assert (await install(database.url, Options(installation=wanted))).warnings == []
    assert (await installation_of(database)).id == wanted
