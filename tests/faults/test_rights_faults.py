"""Faults of rights and of the schema: named at the start with the remedy, waited for while running."""

from collections.abc import AsyncIterator

import pytest

from tests.faults.waits import effects_are_exactly
from tests.support.stack import RUN_ROLE, Process, Stack
from tests.support.waits import eventually

QUICK = {"DISPATCHER_LEASE": "5s", "DISPATCHER_SWEEP_INTERVAL": "1s"}


async def refused(stack: Stack) -> str:
    """Start; return the one line that is said."""
    process = stack.start()
    code = process.popen.wait(30)
    lines = [line for line in process.read_log().splitlines() if not line.startswith("{")]
    assert (code, len(lines)) == (2, 1), process.read_log()
    return lines[0]


async def named(process: Process, *words: str) -> None:
    """Wait until one line of the log has all of these texts."""

    async def said() -> bool:
        return any(all(word in line for word in words) for line in process.read_log().splitlines())

    await eventually(said, f"{words}; log:\n{process.read_log()[-3000:]}", 20)


async def no_tight_loop(stack: Stack, process: Process, fault: str) -> None:
    """Count the complaints of two seconds."""
    before = process.read_log().count(fault)
    began = await stack.value("select clock_timestamp()")
    await eventually(lambda: stack.value("select clock_timestamp() > %s + interval '2 s'", began), "two seconds")
    assert process.read_log().count(fault) - before < 20
    assert process.popen.poll() is None


async def test_f134_missing_grant_is_named_at_the_start(stack: Stack):
    await stack.rows(f"revoke update (error_details) on notify.ent_notification from {RUN_ROLE}")
    await stack.rows(f"revoke insert on dispatcher.recipient from {RUN_ROLE}")
    said = await refused(stack)
    assert f"role {RUN_ROLE} needs UPDATE (error_details) on notify.ent_notification" in said
    assert "INSERT on dispatcher.recipient" in said
    assert f"dispatcher db sql grants --role {RUN_ROLE}" in said


@pytest.mark.slow
@pytest.mark.parametrize(
    "right",
    [
        "update (notification_status) on notify.ent_notification",  # claims
        "insert on dispatcher.recipient",  # runs, before each call
    ],
)
async def test_f134_right_revoked_while_running_is_named_and_waited_for(stack: Stack, right: str):
    process = await stack.running(**QUICK)
    assert await stack.final(await stack.notify()) == ["SENT"]
    await stack.rows(f"revoke {right} from {RUN_ROLE}")
    row = await stack.notify()
    await named(process, "InsufficientPrivilege 42501", "permission denied for table")
    await no_tight_loop(stack, process, "42501")
    assert await stack.status(row) in ("PENDING", "PROCESSING")
    await stack.rows(f"grant {right} to {RUN_ROLE}")
    assert await stack.final(row, within=40) == ["SENT"]
    await effects_are_exactly(stack, 2)


@pytest.fixture
async def policy(stack: Stack) -> AsyncIterator[None]:
    """Row-level security on the outbox, with a policy that shows published rows to every role."""
    await stack.rows(
        "create policy published on notify.ent_notification using (publish_status = 'PUBLISH') with check (true)"
    )
    yield
    await stack.rows("alter table notify.ent_notification disable row level security")


async def test_f135_row_security_is_refused_at_the_start(stack: Stack, policy: None):
    await stack.rows("alter table notify.ent_notification enable row level security")
    said = await refused(stack)
    assert f"row-level security hides rows of notify.ent_notification from role {RUN_ROLE}" in said
    assert "BYPASSRLS" in said
    await stack.rows(f"alter role {RUN_ROLE} bypassrls")
    try:
        await stack.running()
        assert await stack.final(await stack.notify()) == ["SENT"]
    finally:
        await stack.rows(f"alter role {RUN_ROLE} nobypassrls")


@pytest.mark.slow
async def test_f135_row_security_while_running_stops_sending_and_is_named(stack: Stack, policy: None):
    process = await stack.running(**QUICK)
    assert await stack.final(await stack.notify()) == ["SENT"]
    await stack.rows("alter table notify.ent_notification enable row level security")
    seen, hidden = await stack.notify(), await stack.notify(publish_status="DRAFT")
    await named(process, "InsufficientPrivilege 42501", "row-level security policy")
    assert await stack.status(seen) == "PENDING", "rather nothing than only what a policy shows"
    await stack.rows("update notify.ent_notification set publish_status = 'PUBLISH' where id = %s", hidden)
    await stack.rows("alter table notify.ent_notification disable row level security")
    assert await stack.final(seen, hidden) == ["SENT", "SENT"]
    await effects_are_exactly(stack, 3)


def undone(damage: str) -> str:
    """Return the statement that takes a renaming back."""
    *start, old, _, new = damage.split()
    if start[-1] == "rename":  # a column
        return " ".join([*start, new, "to", old])
    thing, rest = damage.removeprefix("alter ").split(" ", 1)
    name = rest.split(" rename to ")[0]
    schema, _, table = name.rpartition(".")
    return f"alter {thing} {f'{schema}.{new}' if schema else new} rename to {table}"


@pytest.mark.slow
@pytest.mark.parametrize(
    "damage",
    [
        "alter schema notify rename to gone",
        "alter table notify.ent_notification rename overrides to gone",
        "alter table dispatcher.recipient rename to gone",
    ],
)
async def test_f130_object_removed_while_running_is_named_and_waited_for(stack: Stack, damage: str):
    process = await stack.running(**QUICK)
    row = await stack.notify(scheduled_for="infinity")
    await stack.rows(damage)
    try:
        if not damage.startswith("alter schema"):
            await stack.rows("update notify.ent_notification set scheduled_for = null where id = %s", row)
        await named(process, "does not exist", " 42")
        await no_tight_loop(stack, process, "does not exist")
    finally:
        await stack.rows(undone(damage))
    await stack.rows("update notify.ent_notification set scheduled_for = null where id = %s", row)
    assert await stack.final(row, within=40) == ["SENT"]
    await effects_are_exactly(stack, 1)
