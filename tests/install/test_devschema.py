"""XNovu's schema for local use has the facts that the real one has."""

import anyio
import psycopg
import pytest

from dispatcher.install import create_dev_schema, install
from tests.install.live_database import Database

TABLES = {
    "typ_notification_category",
    "typ_notification_priority",
    "ent_notification_template",
    "ent_notification_workflow",
    "ent_notification_rule",
    "ent_notification",
}
OUTBOX_COLUMNS = (
    "id name description publish_status deactivated typ_notification_category_id typ_notification_priority_id"
    " notification_workflow_id notification_rule_id notification_status business_id payload recipients channels"
    " overrides tags transaction_id scheduled_for processed_at retracted_at retraction_reason error_details"
    " workflow_version repr enterprise_id created_at created_by updated_at updated_by"
)
INSERT = "insert into notify.ent_notification (name, payload, recipients) values ('A  Name ', '{}', '{}')"


async def test_dev_schema_is_made_once_and_only_without_an_outbox(empty_database: Database) -> None:
    assert await create_dev_schema(empty_database.url)
    before = await empty_database.catalogue()
    assert not await create_dev_schema(empty_database.url)
    assert await empty_database.catalogue() == before


async def test_dev_schema_never_changes_an_existing_outbox(empty_database: Database) -> None:
    await empty_database.run("create schema notify", "create table notify.ent_notification (id int)")
    before = await empty_database.catalogue()
    assert not await create_dev_schema(empty_database.url)
    assert await empty_database.catalogue() == before


async def test_dev_schema_keeps_existing_objects(empty_database: Database) -> None:
    await empty_database.run(
        "create schema auth",
        "create function auth.user_id() returns uuid language sql stable return"
        " '00000000-0000-0000-0000-000000000001'::uuid",
        "create schema shared_types",
        "create type shared_types.notification_status as enum ('PENDING', 'PROCESSING', 'SENT')",
    )
    assert await create_dev_schema(empty_database.url)
    rows = await empty_database.run(INSERT, "select created_by::text from notify.ent_notification")
    assert rows == [("00000000-0000-0000-0000-000000000001",)]
    labels = await empty_database.run("select array_to_string(enum_range(null::shared_types.notification_status), ' ')")
    assert labels == [("PENDING PROCESSING SENT FAILED RETRACTED",)]


async def test_two_dev_schema_installers_make_one_schema(empty_database: Database) -> None:
    made: list[bool] = []

    async def make() -> None:
        made.append(await create_dev_schema(empty_database.url))

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(make)
    assert sorted(made) == [False, False, True]


async def test_dev_schema_has_six_tables_seventeen_indexes_and_no_triggers(database: Database) -> None:
    names = await database.run(
        "select relname from pg_class where relnamespace = 'notify'::regnamespace and relkind = 'r'"
    )
    assert {row[0] for row in names} == TABLES
    assert await database.run("select count(*) from pg_indexes where schemaname = 'notify'") == [(17,)]
    assert await database.run("select count(*) from pg_trigger where not tgisinternal") == [(0,)]


async def test_outbox_has_its_columns_in_order(database: Database) -> None:
    rows = await database.run(
        "select attname from pg_attribute where attrelid = 'notify.ent_notification'::regclass and attnum > 0"
        " order by attnum"
    )
    assert " ".join(row[0] for row in rows) == OUTBOX_COLUMNS


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("notification_channel_type", "IN_APP EMAIL SMS CHAT PUSH"),
        ("notification_workflow_type", "STATIC DYNAMIC"),
        ("notification_status", "PENDING PROCESSING SENT FAILED RETRACTED"),
        ("publish_status", "NONE DRAFT DISCARD PUBLISH DELETED REVIEW"),
    ],
)
async def test_enums_have_their_labels_in_order(database: Database, name: str, labels: str) -> None:
    query = f"select array_to_string(enum_range(null::shared_types.{name}), ' ')"
    assert await database.run(query) == [(labels,)]


async def test_unique_constraints_have_xnovus_names(database: Database) -> None:
    rows = await database.run(
        "select conname from pg_constraint where contype = 'u' and connamespace = 'notify'::regnamespace"
    )
    assert {row[0] for row in rows} == {
        "ent_notification_template_template_key_key",
        "ent_notification_workflow_workflow_key_key",
        "typ_notification_category_code_key",
        "typ_notification_priority_code_key",
        "uq_ent_notification_name_enterprise",
        "uq_ent_notification_rule_name_enterprise",
        "uq_ent_notification_template_name_enterprise_category",
        "uq_ent_notification_workflow_name_enterprise",
        "uq_typ_notification_category_name_enterprise",
        "uq_typ_notification_priority_name_enterprise",
    }


async def test_minimal_insert_is_a_draft_with_xnovus_defaults(database: Database) -> None:
    rows = await database.run(
        INSERT,
        "select publish_status::text, notification_status::text, deactivated, channels::text, workflow_version, repr,"
        " enterprise_id, created_at = updated_at from notify.ent_notification",
    )
    assert rows == [("DRAFT", "PENDING", False, "{IN_APP}", 1, "a name", None, True)]


async def test_names_may_repeat_without_an_enterprise_and_not_within_one(database: Database) -> None:
    tenant = INSERT.replace("recipients)", "recipients, enterprise_id)").replace(
        "'{}', '{}')", "'{}', '{}', '00000000-0000-0000-0000-000000000001')"
    )
    await database.run(INSERT, INSERT, tenant)
    with pytest.raises(psycopg.errors.UniqueViolation, match="uq_ent_notification_name_enterprise"):
        await database.run(tenant)


async def test_updated_at_is_changed_by_the_writer_alone(installed: Database) -> None:
    await installed.run(INSERT, "update notify.ent_notification set notification_status = 'SENT'")
    assert await installed.run("select created_at = updated_at from notify.ent_notification") == [(True,)]


async def test_dev_schema_refuses_what_xnovus_refuses(database: Database) -> None:
    await database.run(INSERT)
    for refused in (
        "update notify.ent_notification set notification_status = 'PARTIAL'",
        "update notify.ent_notification set recipients = '{somebody}'",
        "update notify.ent_notification set payload = null",
        "insert into notify.ent_notification (id, name, payload, recipients) values (1, 'n', '{}', '{}')",
        "update notify.ent_notification set repr = 'x'",
    ):
        with pytest.raises(psycopg.Error):
            await database.run(refused)


async def test_deleting_a_workflow_orphans_notifications_and_takes_its_rules(database: Database) -> None:
    await database.run(
        INSERT,
        "update notify.ent_notification set notification_workflow_id ="
        " (select id from notify.ent_notification_workflow where workflow_key = 'default-sms')",
        "insert into notify.ent_notification_rule (name, notification_workflow_id, trigger_type)"
        " select 'r', notification_workflow_id, 'CRON' from notify.ent_notification",
        "delete from notify.ent_notification_workflow where workflow_key = 'default-sms'",
    )
    assert await database.run("select notification_workflow_id from notify.ent_notification") == [(None,)]
    assert await database.run("select count(*) from notify.ent_notification_rule") == [(0,)]


async def test_seed_rows_are_usable(database: Database) -> None:
    assert await database.run("select code from notify.typ_notification_priority order by sort_order") == [
        ("low",),
        ("medium",),
        ("high",),
        ("critical",),
    ]
    workflows = await database.run(
        "select workflow_key, default_channels::text, workflow_type::text from notify.ent_notification_workflow"
        " where enterprise_id is null and publish_status = 'PUBLISH' and not deactivated"
    )
    channels = {key: value for key, value, _ in workflows}
    assert len(channels) == 13
    assert channels["default-fire-emergency"] == "{SMS,PUSH,EMAIL,IN_APP,CHAT}"
    assert channels["default-in-app"] == "{IN_APP}"
    assert [key for key, _, kind in workflows if kind == "DYNAMIC"] == ["default-dynamic-multi"]


async def test_category_paths_exist_with_or_without_the_extension(database: Database) -> None:
    query = "select path_text from notify.typ_notification_category where code = 'fire-safety'"
    assert await database.run(query) == [("building.fire",)]
    assert await database.run("select to_regtype('extensions.ltree')::text") == [("extensions.ltree",)]


async def test_installation_fits_the_dev_schema(database: Database) -> None:
    assert not (await install(database.url)).remaining
