"""Another program writes statuses beside a running dispatcher."""

import pytest

from tests.faults.waits import effects_are_exactly
from tests.support.stack import Stack
from tests.support.waits import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]

QUICK = {"DISPATCHER_LEASE": "5s", "DISPATCHER_SWEEP_INTERVAL": "1s"}


async def test_f194_late_writes_of_another_program_send_nothing_again(stack: Stack):
    await stack.running(**QUICK)
    rows = [await stack.notify() for _ in range(6)]
    assert await stack.final(*rows) == ["SENT"] * 6
    write = (
        "update notify.ent_notification set notification_status = %s, error_details = %s, processed_at = now()"
        " where id = any(%s)"
    )
    await stack.rows(write, "PROCESSING", None, rows[:3])
    await stack.rows(write, "FAILED", '{"error": "theirs"}', rows[3:])

    async def put_back() -> bool:
        return await stack.value("select bool_and(notification_status = 'SENT') from notify.ent_notification")

    await eventually(put_back, f"SENT again; {stack.log_tails()}", within=20)
    await stack.rows(write, "PROCESSING", None, rows[:1])
    resent = rows[1]
    await stack.rows("update notify.ent_notification set notification_status = 'PENDING' where id = %s", resent)
    assert await stack.final(resent) == ["SENT"]
    await effects_are_exactly(stack, 7)
    generations = dict(await stack.rows("select notification_id, generation from dispatcher.delivery"))
    assert generations == {row: 2 if row == resent else 1 for row in rows}
    assert await stack.status(rows[0]) == "PROCESSING", "once for each generation"

    async def named() -> bool:
        return any("foreign_status_left" in process.read_log() for process in stack.processes)

    await eventually(named, f"named in the log; {stack.log_tails()}", within=20)
    await stack.rows(write, "SENT", None, rows[:1])
