"""The role of `dispatcher run` has what `db sql grants` gives it: every statement of ours works, nothing else does."""

from collections.abc import AsyncIterator

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.errors import InsufficientPrivilege
from pydantic import SecretStr

from dispatcher.app.connections import open_outbox
from dispatcher.config.settings import Settings
from dispatcher.config.table_names import parse_outbox_name
from dispatcher.install import preflight, render_grants
from dispatcher.install.files import as_sql, installer_files
from dispatcher.install.grants import on_ledger, on_outbox, require_rights
from dispatcher.models.claims import ClaimLimits
from dispatcher.models.errors import ConfigurationError
from dispatcher.models.notification import RecipientState
from dispatcher.postgres.outbox import OutboxStore
from tests.support.outbox_fixture import LEASE, OutboxFixture, late, members_of, open_outbox_fixture

ODD = 'run "me" \'$$; {x} %s'


class RecordedQueries(dict[str, bytes]):
    """Our statements, and which of them were used."""

    def __init__(self, statements: dict[str, bytes]) -> None:
        super().__init__(statements)
        self.used: set[str] = set()

    def __getitem__(self, name: str) -> bytes:
        self.used.add(name)
        return super().__getitem__(name)


def as_role(url: str, role: str) -> str:
    return make_conninfo(url, user=role)


@pytest.fixture
async def role(outbox_fixture: OutboxFixture) -> AsyncIterator[str]:
    """A role with an odd name, the grants, and without the rights of PUBLIC."""
    await outbox_fixture.owner.execute(sql.SQL("create role {} login").format(sql.Identifier(ODD)))
    database = sql.Identifier(outbox_fixture.owner.info.dbname)
    await outbox_fixture.owner.execute(sql.SQL("revoke all on database {} from public").format(database))
    await outbox_fixture.owner.execute(render_grants("notify.ent_notification", ODD).encode())
    yield ODD
    await outbox_fixture.owner.execute(sql.SQL("drop owned by {0}; drop role {0}").format(sql.Identifier(ODD)))


async def test_every_statement_runs_with_the_printed_grants(outbox_fixture: OutboxFixture, role: str):
    async with open_outbox_fixture(as_role(outbox_fixture.url, role)) as limited:
        outbox = limited.outbox
        vars(outbox)["_queries"] = noted = RecordedQueries(vars(outbox)["_queries"])
        outbox_fixture.outbox = outbox
        await outbox.heartbeat(role="all", host="here", version="1", mode="EVENT")
        sent, lost, back = [await outbox_fixture.acquired() for _ in range(3)]
        await outbox_fixture.settle(sent, RecipientState.ACCEPTED)
        assert await outbox_fixture.status(sent.id) == "SENT"
        await outbox_fixture.change(sent.id, notification_status="PROCESSING")
        found, _ = await outbox.find_foreign_statuses(0, 10)
        assert await outbox.put_statuses_back(found) == {sent.id}
        assert not await outbox.knows_workflow("any", [sent.id])
        await outbox.record_found(members_of(back))
        await outbox_fixture.notify(notification_status="PROCESSING")
        assert await outbox.adopt_orphans(LEASE, 10) == 1
        await outbox.renew_leases([lost.id], [lost.fence], LEASE)
        await outbox.end_reading([lost.id], [lost.fence])
        await outbox_fixture.expire(lost.id)
        assert await outbox.find_expired(10)
        expired = late(lost)
        assert await outbox.rescue(expired, LEASE)
        await outbox.uncount_rescue(expired)
        await outbox.release([back])
        assert await outbox_fixture.status(back.id) == "PENDING"
        await outbox_fixture.notify(scheduled_for="2999-01-01")
        assert await outbox.seconds_until_due()
        assert await outbox.count_leased() == 1
        await outbox.mark_awake()
        await outbox.mark_asleep()
        assert not await outbox.has_live_worker(LEASE)
        await outbox.withdraw_heartbeat()
        await outbox.backlog_stats(all_rows=True, living=LEASE, most_counted=1000)
        await outbox.notify_all()
        assert await outbox.all_ended_before(await outbox.snapshot_xmax()) in (True, False)
        never_sent = await outbox_fixture.notify(notification_status="RETRACTED")
        await outbox_fixture.change(sent.id, notification_status="RETRACTED")
        assert await outbox.detect_retracted(10) == {sent.id: 1, never_sent: 0}
        [cancel] = await outbox.acquire_cancels(10, LEASE)
        await outbox.record_cancels([cancel])
        await outbox.release_node()
        vars(outbox)["_fair"] = True
        await outbox.claim("in turn", LEASE, ClaimLimits(10, 10, 5))
        await meet_refused_rows(outbox_fixture, outbox)
        assert noted.used == set(noted)


async def meet_refused_rows(outbox_fixture: OutboxFixture, outbox: OutboxStore) -> None:
    """Make the table refuse rows of both kinds of claims and a retraction."""
    for fair in (True, False):
        bad = await outbox_fixture.notify(name="bad")
        await outbox_fixture.notify(name="bad", notification_status="RETRACTED")
        rule = "alter table notify.ent_notification add constraint rule check (name <> 'bad') not valid"
        await outbox_fixture.rows(rule)
        vars(outbox)["_fair"] = fair
        await outbox.claim(f"refused {fair}", LEASE, ClaimLimits(10, 10, 5))
        assert len(await outbox.detect_retracted(10)) == 1
        assert (await outbox_fixture.head(bad))["refused_version"] is not None
        await outbox_fixture.rows("alter table notify.ent_notification drop constraint rule")


FORBIDDEN = {
    "insert": "insert into notify.ent_notification (name, payload, recipients) values ('x', '{}', '{}')",
    "delete from the outbox": "delete from notify.ent_notification",
    "truncate the outbox": "truncate notify.ent_notification",
    "change a payload": "update notify.ent_notification set payload = '{}'",
    "change recipients": "update notify.ent_notification set recipients = '{}'",
    "change overrides": "update notify.ent_notification set overrides = null",
    "publish": "update notify.ent_notification set publish_status = 'PUBLISH'",
    "move to another enterprise": "update notify.ent_notification set enterprise_id = null",
    "read what it does not need": "select description from notify.ent_notification",
    "read what it only writes": "select channels from notify.ent_notification",
    "change a workflow": "update notify.ent_notification_workflow set workflow_key = 'x'",
    "read a template": "select 1 from notify.ent_notification_template",
    "truncate the ledger": "truncate dispatcher.delivery",
    "truncate recipients": "truncate dispatcher.recipient",
    "delete the installation": "delete from dispatcher.installation",
    "become another installation": "update dispatcher.installation set id = gen_random_uuid()",
    "write migrations": "insert into dispatcher.migration (name, checksum) values ('x', 'x')",
    "read migrations": "select 1 from dispatcher.migration",
    "write actions": "insert into dispatcher.action (action, notification_ids) values ('x', '{}')",
    "make a table": "create table dispatcher.mine ()",
    "make a temporary table": "create temporary table mine ()",
    "make a schema": "create schema mine",
    "change our table": "alter table dispatcher.delivery add column mine text",
    "change the outbox": "alter table notify.ent_notification disable trigger user",
    "make a function": "create function notify.mine() returns int language sql return 1",
    "replace the doorbell": "create or replace function dispatcher.ring_v2() returns trigger language plpgsql as ''",
    "make an index": "create index on notify.ent_notification (id)",
    "grant it to others": "grant select on notify.ent_notification_workflow to public",
}


async def test_grants_refuse_what_a_dispatcher_never_does(outbox_fixture: OutboxFixture, role: str):
    await outbox_fixture.notify()
    async with await psycopg.AsyncConnection.connect(as_role(outbox_fixture.url, role), autocommit=True) as limited:
        allowed: list[str] = []
        for name, statement in FORBIDDEN.items():
            try:
                await limited.execute(statement.encode())
            except (InsufficientPrivilege, psycopg.errors.ObjectNotInPrerequisiteState):
                continue
            allowed.append(name)
        assert allowed == []


async def test_granting_again_changes_nothing(outbox_fixture: OutboxFixture, role: str):
    rights = (
        "select attrelid::regclass::text, attname, attacl::text, relacl::text"
        " from pg_attribute join pg_class c on c.oid = attrelid where attacl is not null or relacl is not null"
    )
    before = sorted(await outbox_fixture.rows(rights), key=str)
    await outbox_fixture.owner.execute(render_grants("notify.ent_notification", role).encode())
    assert sorted(await outbox_fixture.rows(rights), key=str) == before


async def missing(outbox_fixture: OutboxFixture, role: str) -> str:
    """Return what `run` would say at its start; empty when it has what it needs."""
    async with await psycopg.AsyncConnection.connect(as_role(outbox_fixture.url, role), autocommit=True) as limited:
        outbox = parse_outbox_name("notify.ent_notification")
        try:
            await require_rights(limited, outbox, await preflight.check(limited, outbox))
        except ConfigurationError as error:
            return str(error)
    return ""


async def test_f134_each_missing_grant_is_named(outbox_fixture: OutboxFixture, role: str):
    name = sql.Identifier(role)
    assert await missing(outbox_fixture, role) == ""
    wanted = [
        each
        for right in (*on_outbox(parse_outbox_name("notify.ent_notification")), *on_ledger())
        for each in right.each()
    ]
    for schema, table, privilege, column in wanted:
        part = sql.SQL("" if column is None else "({})").format(sql.Identifier(column or ""))
        right = sql.SQL("{} {} on {}").format(as_sql(privilege), part, sql.Identifier(schema, table))
        await outbox_fixture.owner.execute(sql.SQL("revoke {} from {}").format(right, name))
        said = await missing(outbox_fixture, role)
        assert f"needs {privilege}{f' ({column})' if column else ''} on {schema}.{table}: as the tables' owner" in said
        assert f"dispatcher db sql grants --role {role} prints" in said
        await outbox_fixture.owner.execute(sql.SQL("grant {} to {}").format(right, name))
    for schema in ("notify", "dispatcher", "shared_types"):
        place = sql.Identifier(schema)
        await outbox_fixture.owner.execute(sql.SQL("revoke usage on schema {} from {}").format(place, name))
        assert f"needs USAGE on schema {schema}: as the tables' owner" in await missing(outbox_fixture, role)
        await outbox_fixture.owner.execute(sql.SQL("grant usage on schema {} to {}").format(place, name))
    await outbox_fixture.owner.execute(
        sql.SQL("revoke all on all tables in schema notify, dispatcher from {}").format(name)
    )
    said = await missing(outbox_fixture, role)
    assert all(f"{schema}.{table}" in said for schema, table, _, _ in wanted), "one sentence names them all"


MISSING = {
    "alter table notify.ent_notification rename to gone": "notify.ent_notification does not exist",
    "alter schema notify rename to gone": "notify.ent_notification does not exist",
    "alter table notify.ent_notification_workflow rename to gone": "ent_notification_workflow does not exist",
    "alter table notify.ent_notification rename overrides to gone": "lacks the column overrides: add",
    "alter table dispatcher.recipient rename to gone": "schema dispatcher lacks recipient; run: dispatcher db install",
    "drop schema dispatcher cascade": "lacks installation, delivery, recipient, node; run: dispatcher db install",
}


@pytest.mark.parametrize(("damage", "said"), MISSING.items())
async def test_f130_missing_objects_are_named_at_the_start(outbox_fixture: OutboxFixture, damage: str, said: str):
    await outbox_fixture.rows(damage)
    url = SecretStr(outbox_fixture.url)
    with pytest.raises(ConfigurationError) as refusal:
        await open_outbox(outbox_fixture.pool, Settings(database_url=url, novu_secret_key=SecretStr("key")), "here")
    assert said in str(refusal.value)
    assert refusal.value.exit_code == 2


async def test_f185_upgrade_extends_the_rights_of_roles_that_run(outbox_fixture: OutboxFixture, role: str):
    taken = sql.SQL("revoke update (restored_at, timeline) on dispatcher.installation from {}")
    await outbox_fixture.owner.execute(taken.format(sql.Identifier(role)))
    table = parse_outbox_name("notify.ent_notification")
    async with await psycopg.AsyncConnection.connect(as_role(outbox_fixture.url, role), autocommit=True) as limited:
        oid = await preflight.check(limited, table)
        with pytest.raises(ConfigurationError, match=r"UPDATE \(restored_at, timeline\) on dispatcher.installation"):
            await require_rights(limited, table, oid)
        [file] = [file for file in installer_files() if file.name == "031_restore.sql"]
        await outbox_fixture.owner.execute(file.text.encode())
        await require_rights(limited, table, oid)
