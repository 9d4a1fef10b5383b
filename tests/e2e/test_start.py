"""If `dispatcher run` cannot start, it prints one line that names the variable and the remedy."""

import pytest

from tests.support.stack import Stack


async def refused(stack: Stack, **settings: str) -> tuple[int, str]:
    """Start with these settings; return the exit code and what was said."""
    process = stack.start(**settings)
    code = process.popen.wait(30)
    return code, process.read_log()


@pytest.mark.parametrize(
    ("settings", "code", "variable"),
    [
        ({"DATABASE_URL": "postgresql://postgres@127.0.0.1:1/none"}, 3, "DATABASE_URL"),
        ({"DATABASE_URL": "mysql://somewhere/else"}, 2, "DATABASE_URL"),
        ({"DATABASE_URL": ""}, 2, "DATABASE_URL"),
        ({"DISPATCHER_LISTEN_DATABASE_URL": "postgresql://x@127.0.0.1:1/none"}, 3, "DISPATCHER_LISTEN_DATABASE_URL"),
        ({"TEMPORAL_ADDRESS": "127.0.0.1:1"}, 3, "TEMPORAL_ADDRESS"),
        ({"NOVU_API_URL": "http://127.0.0.1:1"}, 3, "NOVU_API_URL"),
        ({"NOVU_SECRET_KEY": ""}, 2, "NOVU_SECRET_KEY"),
        ({"DISPATCHER_OUTBOX": "notify.nothing_here"}, 2, "DISPATCHER_OUTBOX"),
        ({"DISPATCHER_LEASE": "soon"}, 2, "DISPATCHER_LEASE"),
        ({"DISPATCHER_LEASES": "60s"}, 2, "DISPATCHER_LEASE"),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else None,
)
async def test_start_error_is_one_line_with_the_variable(
    stack: Stack, settings: dict[str, str], code: int, variable: str
):
    answer, words = await refused(stack, **settings)
    lines = [line for line in words.splitlines() if not line.startswith("{")]
    assert (answer, len(lines)) == (code, 1), words
    assert lines[0].startswith("dispatcher: ")
    assert variable in lines[0]
    assert stack.novu.api_key not in words


async def test_database_without_our_tables_names_the_command(stack: Stack):
    await stack.rows("alter schema dispatcher rename to elsewhere")
    answer, words = await refused(stack)
    await stack.rows("alter schema elsewhere rename to dispatcher")
    assert answer == 2
    assert "dispatcher db install" in words


async def test_missing_namespace_is_created(stack: Stack):
    await stack.running(TEMPORAL_NAMESPACE=f"made-{stack.queue}")
    assert await stack.final(await stack.notify()) == ["SENT"]


async def test_missing_namespace_is_named_when_it_may_not_be_created(stack: Stack):
    answer, words = await refused(stack, TEMPORAL_NAMESPACE="not-there", DISPATCHER_CREATE_NAMESPACE="false")
    assert answer == 2
    assert "TEMPORAL_NAMESPACE" in words


async def test_sigterm_while_idle_stops_at_once(stack: Stack):
    process = await stack.running()
    assert await process.stop(within=10) == 0
    assert await stack.value("select count(*) from dispatcher.node") == 0
