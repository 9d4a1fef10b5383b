"""Faults of rights and of the schema: named at the start with the remedy, waited for while running."""

from collections.abc import AsyncIterator

import pytest
from facts import effects_are_exactly
from house import RUN_ROLE, House, Process, eventually

QUICK = {"DISPATCHER_LEASE": "5s", "DISPATCHER_SWEEP_INTERVAL": "1s"}


async def refused(house: House) -> str:
    """Start; return the one line that is said."""
    process = house.start()
    code = process.popen.wait(30)
    lines = [line for line in process.words().splitlines() if not line.startswith("{")]
    assert (code, len(lines)) == (2, 1), process.words()
    return lines[0]


async def named(process: Process, *words: str) -> None:
    """Wait until one line of the log has all of the words."""

    async def said() -> bool:
        return any(all(word in line for word in words) for line in process.words().splitlines())

    await eventually(said, f"{words}; log:\n{process.words()[-3000:]}", 20)


async def no_tight_loop(house: House, process: Process, fault: str) -> None:
    """Count the complaints of two seconds."""
    before = process.words().count(fault)
    began = await house.value("select clock_timestamp()")
    await eventually(lambda: house.value("select clock_timestamp() > %s + interval '2 s'", began), "two seconds")
    assert process.words().count(fault) - before < 20
    assert process.popen.poll() is None


async def test_f134_a_missing_grant_is_named_at_the_start(house: House):
    await house.rows(f"revoke update (error_details) on notify.ent_notification from {RUN_ROLE}")
    await house.rows(f"revoke insert on dispatcher.recipient from {RUN_ROLE}")
    said = await refused(house)
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
async def test_f134_a_right_taken_away_while_running_is_named_and_waited_for(house: House, right: str):
    process = await house.running(**QUICK)
    assert await house.final(await house.notify()) == ["SENT"]
    await house.rows(f"revoke {right} from {RUN_ROLE}")
    row = await house.notify()
    await named(process, "InsufficientPrivilege 42501", "permission denied for table")
    await no_tight_loop(house, process, "42501")
    assert await house.status(row) in ("PENDING", "PROCESSING")
    await house.rows(f"grant {right} to {RUN_ROLE}")
    assert await house.final(row, within=40) == ["SENT"]
    await effects_are_exactly(house, 2)


@pytest.fixture
async def policy(house: House) -> AsyncIterator[None]:
    """Row-level security on the outbox, with a policy that lets everybody see published rows."""
    await house.rows(
        "create policy published on notify.ent_notification using (publish_status = 'PUBLISH') with check (true)"
    )
    yield
    await house.rows("alter table notify.ent_notification disable row level security")


async def test_f135_row_security_is_refused_at_the_start(house: House, policy: None):
    await house.rows("alter table notify.ent_notification enable row level security")
    said = await refused(house)
    assert f"row-level security hides rows of notify.ent_notification from role {RUN_ROLE}" in said
    assert "BYPASSRLS" in said
    await house.rows(f"alter role {RUN_ROLE} bypassrls")
    try:
        await house.running()
        assert await house.final(await house.notify()) == ["SENT"]
    finally:
        await house.rows(f"alter role {RUN_ROLE} nobypassrls")


@pytest.mark.slow
async def test_f135_row_security_while_running_stops_everything_and_says_so(house: House, policy: None):
    process = await house.running(**QUICK)
    assert await house.final(await house.notify()) == ["SENT"]
    await house.rows("alter table notify.ent_notification enable row level security")
    seen, hidden = await house.notify(), await house.notify(publish_status="DRAFT")
    await named(process, "InsufficientPrivilege 42501", "row-level security policy")
    assert await house.status(seen) == "PENDING", "rather nothing than only what a policy shows"
    await house.rows("update notify.ent_notification set publish_status = 'PUBLISH' where id = %s", hidden)
    await house.rows("alter table notify.ent_notification disable row level security")
    assert await house.final(seen, hidden) == ["SENT", "SENT"]
    await effects_are_exactly(house, 3)


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
async def test_f130_what_goes_missing_while_running_is_named_and_waited_for(house: House, damage: str):
    process = await house.running(**QUICK)
    row = await house.notify(scheduled_for="infinity")
    await house.rows(damage)
    try:
        if not damage.startswith("alter schema"):
            await house.rows("update notify.ent_notification set scheduled_for = null where id = %s", row)
        await named(process, "does not exist", " 42")
        await no_tight_loop(house, process, "does not exist")
    finally:
        await house.rows(undone(damage))
    await house.rows("update notify.ent_notification set scheduled_for = null where id = %s", row)
    assert await house.final(row, within=40) == ["SENT"]
    await effects_are_exactly(house, 1)
