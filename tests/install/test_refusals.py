"""An impossible installation is refused in one sentence with its remedy, before anything changes."""

import re

import pytest

from dispatcher.install import Options, inspect, install
from dispatcher.models.errors import ConfigurationError, Unreachable
from tests.install.live_database import Database

TABLE = "notify.ent_notification"
# A fault of the host, and the sentence about it.
WRONG = [
    (f"drop table {TABLE} cascade", "table notify.ent_notification does not exist in install_"),
    (f"drop table {TABLE}_workflow cascade", "notify.ent_notification_workflow does not exist"),
    (f"alter table {TABLE} drop column overrides", "lacks the column overrides: add"),
    (f"alter table {TABLE} drop column overrides, drop column channels", "lacks the columns channels, overrides: add"),
    (
        f"alter table {TABLE} alter column scheduled_for type timestamp",
        (
            "column scheduled_for of notify.ent_notification is timestamp without time zone,"
            " which Dispatcher cannot use: it has to be timestamp with time zone"
        ),
    ),
    (f"alter table {TABLE} alter column payload type text", "column payload .* is text.* jsonb or json"),
    (f"alter table {TABLE} drop column recipients, add column recipients uuid", "column recipients .* is uuid"),
    (
        f"alter table {TABLE} alter column deactivated drop default, alter column deactivated type text",
        "column deactivated .* is text.* boolean",
    ),
    (
        f"alter table {TABLE}_workflow drop column workflow_key cascade",
        "ent_notification_workflow lacks the column workflow_key",
    ),
    (
        "alter type shared_types.notification_status rename value 'RETRACTED' to 'TAKEN_BACK'",
        "lacks the label RETRACTED: add it with ALTER TYPE",
    ),
    (
        "alter type shared_types.publish_status rename value 'PUBLISH' to 'PUBLISHED'",
        "enum of notify.ent_notification.publish_status lacks the label PUBLISH",
    ),
    (
        f"alter table {TABLE} rename to old; create table {TABLE} (like notify.old) partition by range (id)",
        "is partitioned: Dispatcher needs an ordinary table",
    ),
    (f"alter table {TABLE} rename to old; create view {TABLE} as select * from notify.old", "is not a table"),
    (f"alter table {TABLE} rename to old; create table {TABLE} () inherits (notify.old)", "a partition or inherits"),
]


@pytest.mark.parametrize(("wrong", "said"), WRONG)
async def test_f138_unsuitable_database_is_refused_and_unchanged(database: Database, wrong: str, said: str) -> None:
    await database.run(wrong)
    before = await database.catalogue()
    for attempt in (install, inspect):
        with pytest.raises(ConfigurationError, match=said) as caught:
            await attempt(database.url)
        assert "\n" not in str(caught.value)
    assert await database.catalogue() == before


@pytest.mark.parametrize("type_", ["integer", "bigint"])
async def test_compatible_column_types_are_accepted(database: Database, type_: str) -> None:
    await database.run(
        f"alter table {TABLE} alter column notification_workflow_id type {type_}",
        f"alter table {TABLE} alter column overrides type json, alter column enterprise_id type text",
        f"alter table {TABLE} alter column recipients type text[], alter column channels drop default",
        f"alter table {TABLE} alter column channels type text[], alter column deactivated drop not null",
        "create domain notify.due as timestamptz",
        f"alter table {TABLE} alter column scheduled_for type notify.due",
    )
    assert not (await install(database.url)).remaining


# The rights that the installer's role has, and the rights that the error asks for.
RIGHTS = [
    (
        "grant usage on schema notify to {role}",
        ["CREATE on database", "SELECT on notify.ent", "TRIGGER on notify.ent", "to own"],
    ),
    (
        "alter table notify.ent_notification owner to {role}",
        ["CREATE on database", "CREATE on schema notify", "USAGE on schema notify"],
    ),
    (
        (
            "alter table notify.ent_notification owner to {role}; grant all on schema notify to {role};"
            " grant create on database {database} to {role}"
        ),
        [],
    ),
]


@pytest.mark.parametrize(("given", "needed"), RIGHTS)
async def test_f134_installer_without_rights_is_told_which(database: Database, given: str, needed: list[str]) -> None:
    name, role = database.name, "install_limited"
    await database.run(
        f"do $$ begin if to_regrole('{role}') is null then create role {role} login; end if; end $$",
        given.format(role=role, database=name),
    )
    before = await database.catalogue()
    url = database.url.replace("postgres@", f"{role}@")
    if not needed:
        assert not (await install(url)).remaining
        return
    with pytest.raises(ConfigurationError) as caught:
        await install(url)
    assert "\n" not in str(caught.value)
    assert all(need in str(caught.value) for need in needed), str(caught.value)
    assert await database.catalogue() == before


async def test_comparison_without_temporary_tables_is_refused_with_a_reason(database: Database) -> None:
    name, role = database.name, "install_limited"
    await database.run(
        f"do $$ begin if to_regrole('{role}') is null then create role {role} login; end if; end $$",
        f"alter table notify.ent_notification owner to {role}",
        f"grant all on schema notify to {role}",
        f"revoke temporary on database {name} from public",
    )
    with pytest.raises(ConfigurationError, match="needs TEMPORARY on database"):
        await inspect(database.url.replace("postgres@", f"{role}@"))


async def test_role_with_trigger_right_alone_installs_without_indexes(database: Database) -> None:
    """A role with TRIGGER but without ownership installs everything but the indexes."""
    name, role = database.name, "install_limited"
    await database.run(
        f"do $$ begin if to_regrole('{role}') is null then create role {role} login; end if; end $$",
        f"grant create on database {name} to {role}",
        f"grant usage on schema notify to {role}",
        f"grant select, trigger on notify.ent_notification to {role}",
    )
    url = database.url.replace("postgres@", f"{role}@")
    with pytest.raises(ConfigurationError, match=r"to own notify.ent_notification \(or --no-index\)"):
        await install(url)
    assert not (await install(url, Options(indexes=False))).remaining


async def test_missing_server_is_unreachable() -> None:
    with pytest.raises(Unreachable, match=r"cannot connect to postgres://postgres@127\.0\.0\.1:1/none"):
        await install("postgresql://postgres@127.0.0.1:1/none")


async def test_malformed_url_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="not a Postgres URL"):
        await install("mysql://somewhere/else")


def test_lock_timeout_of_zero_is_refused() -> None:
    from datetime import timedelta

    with pytest.raises(ConfigurationError, match=re.escape("wait for ever")):
        Options(lock_timeout=timedelta(0))
