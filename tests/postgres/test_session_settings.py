"""No default of a role or a database changes what our statements do: each setting at its most hostile value.

Every setting that a session can change is listed here once: in HOSTILE if its value would change what our statements
mean, so that `dispatcher/postgres/session.py` pins it, else in HARMLESS with the reason. A setting of a newer
PostgreSQL makes a test ask for the decision.
"""

from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from dispatcher.devstack.postgres import PostgresServer
from dispatcher.postgres import session
from dispatcher.postgres.pool import CONNECTION_ERRORS, borrow_connection, open_pool
from tests.postgres.session_journey import journey
from tests.support.databases import cloned

ROLE = "hostile"
# 50 ms: the login itself has to pass, on a machine that others use too.
HOSTILE = {
    "array_nulls": "off",
    "bytea_output": "escape",
    "client_encoding": "LATIN1",
    "client_min_messages": "debug5",
    "DateStyle": "SQL, DMY",
    "default_table_access_method": "hostile_method",
    "default_transaction_deferrable": "on",
    "default_transaction_isolation": "serializable",
    "default_transaction_read_only": "on",
    "enable_bitmapscan": "off",
    "enable_indexonlyscan": "off",
    "enable_indexscan": "off",
    "enable_nestloop": "off",
    "enable_seqscan": "off",
    "exit_on_error": "on",
    "extra_float_digits": "-15",
    "gin_fuzzy_search_limit": "1",
    "idle_in_transaction_session_timeout": "50ms",
    "idle_session_timeout": "50ms",
    "IntervalStyle": "sql_standard",
    "jit": "on",
    "lock_timeout": "1ms",
    "log_parameter_max_length_on_error": "-1",
    "plan_cache_mode": "force_custom_plan",
    "quote_all_identifiers": "on",
    "row_security": "off",
    "search_path": "nowhere",
    "standard_conforming_strings": "off",
    "statement_timeout": "50ms",
    "synchronous_commit": "off",
    "TimeZone": "Australia/Lord_Howe",
    "transaction_timeout": "50ms",
    "transform_null_equals": "on",
}
IN_CONNINFO = {"client_encoding"}
"""Settings that are pinned at the login, by `dispatcher/config/conninfo.py`."""
HARMLESS = {
    "only a plan or its speed": """
        backend_flush_after commit_siblings constraint_exclusion cpu_index_tuple_cost cpu_operator_cost cpu_tuple_cost
        cursor_tuple_fraction debug_parallel_query effective_cache_size effective_io_concurrency enable_async_append
        enable_distinct_reordering enable_eager_aggregate enable_gathermerge enable_group_by_reordering enable_hashagg
        enable_hashjoin enable_incremental_sort enable_material enable_memoize enable_mergejoin enable_parallel_append
        enable_parallel_hash enable_partition_pruning enable_partitionwise_aggregate enable_partitionwise_join
        enable_presorted_aggregate enable_self_join_elimination enable_sort enable_tidscan force_parallel_mode
        from_collapse_limit geqo geqo_effort geqo_generations geqo_pool_size geqo_seed geqo_selection_bias
        geqo_threshold gin_pending_list_limit hash_mem_multiplier io_combine_limit jit_above_cost jit_expressions
        jit_inline_above_cost jit_optimize_above_cost jit_tuple_deforming join_collapse_limit maintenance_io_concurrency
        maintenance_work_mem max_parallel_maintenance_workers max_parallel_workers max_parallel_workers_per_gather
        min_parallel_index_scan_size min_parallel_table_scan_size parallel_leader_participation parallel_setup_cost
        parallel_tuple_cost random_page_cost recursive_worktable_factor seq_page_cost stats_fetch_consistency
        temp_buffers wal_skip_threshold work_mem""",
    "the order of rows, which our statements give themselves where it matters": "synchronize_seqscans",
    "only log and messages": """
        application_name debug_pretty_print debug_print_parse debug_print_plan debug_print_raw_parse
        debug_print_rewritten escape_string_warning md5_password_warnings trace_notify trace_sort""",
    "where and how tables are stored, which is the owner's choice": """
        default_statistics_target default_tablespace default_toast_compression file_copy_method
        temp_tablespaces""",
    "VACUUM and ANALYZE, which we do not run": """
        vacuum_buffer_usage_limit vacuum_cost_delay vacuum_cost_limit vacuum_cost_page_dirty vacuum_cost_page_hit
        vacuum_cost_page_miss vacuum_failsafe_age vacuum_freeze_min_age vacuum_freeze_table_age
        vacuum_max_eager_freeze_failure_rate vacuum_multixact_failsafe_age vacuum_multixact_freeze_min_age
        vacuum_multixact_freeze_table_age vacuum_truncate""",
    "the network, which is the owner's choice; the ends of a connection have our own limits": """
        client_connection_check_interval tcp_keepalives_count tcp_keepalives_idle tcp_keepalives_interval
        tcp_user_timeout""",
    "words of SQL that we do not use: XML, money, text search, to_char, names of time zones, roles, replication": """
        backslash_quote createrole_self_grant default_text_search_config icu_validation_level lc_monetary lc_numeric
        lc_time logical_decoding_work_mem debug_logical_replication_streaming logical_replication_mode
        password_encryption scram_iterations timezone_abbreviations wal_sender_timeout xmlbinary xmloption""",
    "checks of the owner's, which they want": """
        check_function_bodies local_preload_libraries restrict_nonsystem_relation_kind""",
    "of the present transaction; BEGIN sets them from the defaults, which are pinned": """
        transaction_deferrable transaction_isolation transaction_read_only""",
}
OF_TRANSACTION = {"transaction_deferrable", "transaction_isolation", "transaction_read_only"}
"""PostgreSQL refuses these as a default."""
TEXTS = {
    "application_name": "hostile",
    "createrole_self_grant": "set, inherit",
    "default_text_search_config": "simple",
    "restrict_nonsystem_relation_kind": "view, foreign-table",
    "timezone_abbreviations": "Australia",
}
"""A value for each harmless setting that takes a text. A text that no server has would be ignored at the login."""
AT_MOST = {"temp_buffers": 2000, "vacuum_buffer_usage_limit": 128}
"""Where the largest value is memory that is taken at once. That fails at any server."""


@pytest.fixture
async def databases(postgres_server: PostgresServer, outbox_template: str) -> AsyncIterator[tuple[str, str]]:
    """The URL of a hostile role in a database of the test's own, and the URL of its owner."""
    async with cloned(postgres_server, outbox_template) as url:
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as owner:
            create = (
                f"do $$ begin if to_regrole('{ROLE}') is null then create role {ROLE} superuser login; end if; end $$"
            )
            await owner.execute(create.encode())
        yield url.replace("//postgres@", f"//{ROLE}@"), url


async def set_defaults(owner_url: str, values: dict[str, str]) -> None:
    """Set the defaults of the hostile role in the database."""
    async with await psycopg.AsyncConnection.connect(owner_url, autocommit=True) as owner:
        database = sql.Identifier(owner.info.dbname)
        for name, value in values.items():
            statement = sql.SQL("alter role {} in database {} set {} = {}")
            await owner.execute(statement.format(sql.Identifier(ROLE), database, sql.Identifier(name), value))


@pytest.fixture(scope="module")
async def usual(postgres_server: PostgresServer, outbox_template: str) -> list[Any]:
    """The facts of a journey without hostile settings."""
    async with cloned(postgres_server, outbox_template) as url:
        return await journey(url, url)


def without_warning(found: list[Any]) -> list[Any]:
    """Return the facts of a journey without the warning of doctor that a read-only default is overridden."""
    findings = [
        ("server", "pass", "") if "dispatcher overrides" in value else (n, v, value) for n, v, value in found[-1]
    ]
    return [*found[:-1], findings]


@pytest.mark.slow  # all of them together
@pytest.mark.parametrize("setting", HOSTILE)
async def test_f216_hostile_default_changes_nothing(databases: tuple[str, str], usual: list[Any], setting: str):
    url, owner_url = databases
    await set_defaults(owner_url, {setting: HOSTILE[setting]})
    assert without_warning(await journey(url, owner_url)) == usual


async def test_f216_hostile_defaults_change_nothing_together(databases: tuple[str, str], usual: list[Any]):
    url, owner_url = databases
    await set_defaults(owner_url, HOSTILE)
    found = await journey(url, owner_url)
    assert found[-1] != without_warning(found)[-1], "doctor says that a read-only default is overridden"
    assert without_warning(found) == usual


@pytest.mark.parametrize("end", ["least", "most"])
async def test_f216_harmless_settings_change_nothing_together(
    databases: tuple[str, str], usual: list[Any], end: str, harmless: dict[str, tuple[str, str]]
):
    url, owner_url = databases
    await set_defaults(owner_url, {name: values[end == "most"] for name, values in harmless.items()})
    assert await journey(url, owner_url) == usual


@pytest.fixture
async def harmless(databases: tuple[str, str]) -> dict[str, tuple[str, str]]:
    """The least and the most of each harmless setting; for a switch or a choice, what it is not by default."""
    names = {name for names in HARMLESS.values() for name in names.split() if name not in OF_TRANSACTION}
    found: dict[str, tuple[str, str]] = {}
    async with await psycopg.AsyncConnection.connect(databases[1], autocommit=True) as owner:
        rows = await owner.execute(
            "select name, vartype, setting, min_val, max_val, enumvals from pg_settings where name = any(%s)",
            [list(names)],
        )
        async for name, kind, setting, least, most, labels in rows:
            if kind == "bool":
                switched = "off" if setting == "on" else "on"
                found[name] = (switched, switched)
            elif kind == "enum":
                others = [label for label in labels if label != setting] or [setting]
                found[name] = (others[0], others[-1])
            elif kind in {"integer", "real"}:
                found[name] = (least, str(AT_MOST.get(name, most)))
            elif name in TEXTS:
                found[name] = (TEXTS[name], TEXTS[name])
    return found


async def test_every_setting_of_postgresql_is_decided(databases: tuple[str, str]):
    """A name that is new here has to be pinned in session.py and named in HOSTILE, or be named in HARMLESS."""
    async with await psycopg.AsyncConnection.connect(databases[1], autocommit=True) as owner:
        names = {
            name
            for (name,) in await (await owner.execute("select name from pg_settings where context = 'user'")).fetchall()
        }
    decided = [*HOSTILE, *(name for names in HARMLESS.values() for name in names.split())]
    assert len(decided) == len(set(decided)), "each setting is named once"
    assert names - set(decided) == set()


def test_every_setting_that_is_not_harmless_is_pinned():
    everywhere = {**session.PINNED_SETTINGS, **dict.fromkeys(IN_CONNINFO, "")}
    somewhere = {**session.POOL_SETTINGS, **session.OPERATOR_SETTINGS, **session.INSTALLER_SETTINGS}
    assert set(HOSTILE) <= {*everywhere, *somewhere}
    assert {*everywhere, *somewhere} - set(HOSTILE) == {"client_connection_check_interval", "dispatcher.quiet"}


async def test_setting_of_a_newer_postgresql_is_left_out(databases: tuple[str, str]):
    async with await psycopg.AsyncConnection.connect(databases[1], autocommit=True) as connection:
        await session.apply_settings(connection, {"no_such_setting": "on", "array_nulls": "off"}, local=False)
        row = await (await connection.execute("select current_setting('array_nulls')")).fetchone()
    assert row == ("off",)


async def test_refused_write_says_that_the_server_is_a_standby(databases: tuple[str, str]):
    async def delete(*statements: str) -> None:
        async with borrow_connection(pool) as connection:
            for statement in (*statements, "delete from notify.ent_notification"):
                await connection.execute(statement.encode())

    pool = await open_pool(databases[1])
    try:
        with pytest.raises(CONNECTION_ERRORS, match=r"is a standby.*\(cannot execute DELETE.*DATABASE_URL has to lead"):
            await delete("set default_transaction_read_only = on")
        await delete()  # the connection was replaced
    finally:
        await pool.close(timeout=2)
