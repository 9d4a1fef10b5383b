"""Installing again, several at once, interrupted, and beside writers that do not commit."""

import contextlib
import sys
import time
from datetime import timedelta

import anyio
import pytest

from dispatcher.install import Options, inspect, install, uninstall, wait_until_ready
from dispatcher.models.errors import Unreachable
from tests.install.live_database import Database
from tests.support.waits import eventually

DUE = """
insert into notify.ent_notification (name, payload, recipients, publish_status) values ('n', '{}', '{}', 'PUBLISH')
"""
WAITING = """
select pid from pg_stat_activity
where datname = current_database() and application_name = 'dispatcher db' and wait_event_type = 'Lock'
"""
NOBODY = """
select 1 where not exists (
  select from pg_stat_activity where datname = current_database() and application_name = 'dispatcher db'
)
"""
IMPATIENT = Options(lock_timeout=timedelta(milliseconds=200), attempts=2)


async def test_f137_tenth_install_changes_nothing(database: Database) -> None:
    report = await install(database.url)
    assert report.changed
    assert not report.remaining
    first = await database.catalogue()
    for _ in range(9):
        assert not (await install(database.url)).changed
    assert await database.catalogue() == first
    assert await inspect(database.url) == []


async def test_f132_four_installers_at_once_all_succeed(database: Database) -> None:
    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(install, database.url)
    assert await inspect(database.url) == []


async def test_f133_installer_gives_up_and_names_the_open_writer(database: Database) -> None:
    said: list[str] = []
    async with await database.connect(application_name="night shift") as writer:
        await writer.execute("begin")
        await writer.execute(DUE)
        began = time.monotonic()
        with pytest.raises(Unreachable, match=rf"pid {writer.info.backend_pid} \(night shift, idle in transaction"):
            await install(database.url, IMPATIENT, said.append)
        assert time.monotonic() - began > 0.9, "two attempts of 0.2 s, and 0.5 s in which writers catch up"
        await writer.execute("rollback")
    assert "attempt 1 of 2" in said[0]
    assert await database.run("select 1 from pg_namespace where nspname = 'dispatcher'") == []


async def test_f133_installer_succeeds_once_the_writer_commits(database: Database) -> None:
    async with await database.connect() as writer, anyio.create_task_group() as tasks:
        await writer.execute("begin")
        await writer.execute(DUE)
        told = anyio.Event()
        tasks.start_soon(install, database.url, Options(lock_timeout=timedelta(milliseconds=200)), lambda _: told.set())
        await told.wait()
        await writer.execute("commit")
    assert await inspect(database.url) == []


async def test_f133_other_writers_wait_no_longer_than_the_lock_timeout(database: Database) -> None:
    slowest = 0.0
    async with await database.connect() as holder, await database.connect() as writer:
        await holder.execute("begin")
        await holder.execute(DUE)
        async with anyio.create_task_group() as tasks:
            done = anyio.Event()

            async def installing() -> None:
                options = Options(lock_timeout=timedelta(milliseconds=300), attempts=3)
                with contextlib.suppress(Unreachable):
                    await install(database.url, options)
                done.set()

            tasks.start_soon(installing)
            await eventually(lambda: database.run(WAITING), WAITING, 20)
            number = 0
            while not done.is_set():
                began = time.monotonic()
                number += 1
                await writer.execute(DUE.replace("'n'", f"'n{number}'").encode())
                slowest = max(slowest, time.monotonic() - began)
    assert 0.1 < slowest < 1.5, "writers queue behind the installer, and not for longer than its lock timeout"


async def test_second_install_does_not_wait_for_writers(installed: Database) -> None:
    async with await installed.connect() as writer:
        await writer.execute("begin")
        await writer.execute(DUE)
        assert not (await install(installed.url, IMPATIENT)).changed


async def test_repair_of_our_schema_does_not_wait_for_writers(installed: Database) -> None:
    await installed.run("drop index dispatcher.delivery_lease")
    async with await installed.connect() as writer:
        await writer.execute("begin")
        await writer.execute(DUE)
        assert [each.kind for each in (await install(installed.url, IMPATIENT)).changed] == ["index"]


@pytest.mark.parametrize("cut", ["transaction", "index"])
async def test_f131_killed_install_is_completed_by_a_second_run(database: Database, cut: str) -> None:
    """The transaction is cut while it waits for a writer, the index build while it waits for an old snapshot."""
    async with await database.connect() as blocker:
        hold = "begin" if cut == "transaction" else "begin isolation level repeatable read"
        await blocker.execute(hold)
        await blocker.execute(DUE if cut == "transaction" else "select count(*) from pg_class")
        script = "import anyio, sys; from dispatcher.install import install; anyio.run(install, sys.argv[1])"
        async with await anyio.open_process([sys.executable, "-c", script, database.url]) as installer:
            await eventually(lambda: database.run(WAITING), WAITING, 20)
            installer.kill()
            await eventually(
                lambda: database.run(NOBODY), NOBODY, 20
            )  # the server notices by itself, or the next installer would wait for it
        await blocker.execute("rollback")
    await install(database.url)
    assert await inspect(database.url) == []
    assert await database.count_notifies(DUE) == 1


async def test_f131_install_ended_after_any_statement_is_completed_by_a_second_run(database: Database) -> None:
    """The server ends the session when it begins its n-th statement that changes something, for every n there is."""
    await database.run(
        "create schema faults",
        "create sequence faults.began",
        "create function faults.strike() returns event_trigger language plpgsql as $$ begin"
        " if nextval('faults.began') = current_setting('faults.at')::int then"
        " perform pg_terminate_backend(pg_backend_pid()); perform pg_sleep(0); end if; end $$",
        "create event trigger strike on ddl_command_start execute function faults.strike()",
    )
    strikes = 0
    while True:
        await database.run(
            "alter event trigger strike disable",
            f"alter database {database.name} set faults.at = {20 + strikes * 3}",
            "alter sequence faults.began restart",
            "alter event trigger strike enable",
        )
        try:
            await install(database.url)
        except Unreachable:
            strikes += 1
            await database.run("alter event trigger strike disable")
            assert await database.count_notifies(DUE.replace("'n'", f"'n{strikes}'")) <= 1
            continue
        break
    assert strikes >= 5
    assert await inspect(database.url) == []


async def test_f138_triggers_of_the_application_stay_and_fire(database: Database) -> None:
    await database.run(
        "create table notify.seen (id bigint)",
        "create function notify.look() returns trigger language plpgsql as"
        " $$ begin insert into notify.seen values (new.id); return new; end $$",
        "create trigger zz_host after insert on notify.ent_notification for each row execute function notify.look()",
        "create trigger aa_host before insert on notify.ent_notification for each row execute function notify.look()",
    )
    await install(database.url)
    assert await database.count_notifies(DUE) == 1
    assert await database.run("select count(*) from notify.seen") == [(2,)]
    await uninstall(database.url, Options(ledger=True))
    names = await database.run("select tgname from pg_trigger where not tgisinternal order by 1")
    assert names == [("aa_host",), ("zz_host",)]


async def test_f131_interrupted_index_is_rebuilt(database: Database) -> None:
    async with await database.connect() as blocker:
        await blocker.execute("begin isolation level repeatable read")
        await blocker.execute("select count(*) from pg_class")
        impatient = Options(index_timeout=timedelta(milliseconds=200), attempts=1)
        with pytest.raises(Unreachable, match=f"pid {blocker.info.backend_pid}"):
            await install(database.url, impatient)
        found = await inspect(database.url)
    assert "invalid" in {each.problem for each in found}
    await install(database.url)
    assert await inspect(database.url) == []


async def test_install_without_indexes_adds_none(database: Database) -> None:
    count = "select count(*) from pg_indexes where schemaname = 'notify'"
    before = await database.run(count)
    await install(database.url, Options(indexes=False))
    assert await database.run(count) == before
    assert await inspect(database.url, Options(indexes=False)) == []
    assert {each.kind for each in await inspect(database.url)} == {"outbox index", "file"}


async def test_uninstall_keeps_the_ledger_and_a_later_installation_finds_it(installed: Database) -> None:
    key = "select id from dispatcher.installation"
    ours = "select tgname from pg_trigger where not tgisinternal union select indexname from pg_indexes"
    before = await installed.run(key)
    await uninstall(installed.url)
    assert [row for row in await installed.run(ours) if "dispatcher" in row[0]] == []
    assert await installed.count_notifies(DUE) == 0
    await install(installed.url)
    assert await inspect(installed.url) == []
    assert await installed.run(key) == before


async def test_f137_uninstall_with_the_ledger_removes_everything(database: Database) -> None:
    before = await database.definitions()
    await install(database.url)
    for _ in range(2):
        await uninstall(database.url, Options(ledger=True))
    assert await database.definitions() == before
    assert await database.run("select 1 from pg_namespace where nspname = 'dispatcher'") == []


async def test_uninstall_waits_for_writers_with_the_same_limits(installed: Database) -> None:
    async with await installed.connect() as reader:
        await reader.execute("begin")
        await reader.execute("select count(*) from notify.ent_notification")
        with pytest.raises(Unreachable, match=f"pid {reader.info.backend_pid}"):
            await uninstall(installed.url, IMPATIENT)
    assert await inspect(installed.url) == []


async def test_wait_ends_with_the_databases_answer_or_gives_up(database: Database) -> None:
    await wait_until_ready(database.url, timedelta(seconds=5))
    nobody = "postgresql://postgres@127.0.0.1:1/none"
    with pytest.raises(Unreachable, match="cannot connect"):
        await wait_until_ready(nobody, timedelta(milliseconds=300))


async def test_password_is_never_printed(database: Database) -> None:
    with pytest.raises(Unreachable) as caught:
        await install(database.url.replace("postgres@", "nobody:hunter2@"))
    assert "hunter2" not in str(caught.value)
