"""Rules of the owner's table that refuse single rows: every other row goes on, and the refused ones are named."""

import asyncio
import json

from tests.e2e.test_operator_commands import run, run_command
from tests.faults.waits import effects_are_exactly
from tests.support.run_doctor import run_doctor
from tests.support.stack import Process, Stack
from tests.support.waits import eventually

QUICK = {"DISPATCHER_LEASE": "5s", "DISPATCHER_SWEEP_INTERVAL": "1s"}
RULE = """
create function notify.rule() returns trigger language plpgsql as $$ begin
  if new.name = 'bad claim' and new.notification_status = 'PROCESSING'
    or new.name = 'bad outcome' and new.notification_status = 'SENT'
    or new.name = 'bad retraction' and new.error_details::jsonb ? 'retraction' then
    raise exception using message = 'no ' || new.name || ' in this house';
  end if;
  return new;
end $$;
create trigger rule before update on notify.ent_notification for each row execute function notify.rule()
"""


async def test_f186_rows_that_the_table_refuses_stop_no_other_and_are_named(stack: Stack):
    await stack.burst(100)
    first = await stack.value("select min(id) from notify.ent_notification")
    claim, outcome, retraction, other = first + 20, first + 50, first + 80, first + 81
    for row, name in ((claim, "bad claim"), (outcome, "bad outcome"), (retraction, "bad retraction")):
        await stack.rows("update notify.ent_notification set name = %s where id = %s", name, row)
    await stack.rows(RULE)
    process = await stack.running(**QUICK)
    await stack.all_sent(98, within=20)
    await stack.rows(
        "update notify.ent_notification set notification_status = 'RETRACTED' where id = any(%s)", [retraction, other]
    )

    async def cancelled() -> bool:
        return await stack.value("select count(*) from dispatcher.recipient where state = 'cancelled'") == 2

    await eventually(cancelled, f"both retractions at Novu; {stack.log_tails()}", 20)
    assert [await stack.status(row) for row in (claim, outcome)] == ["PENDING", "PROCESSING"]
    await names_them(stack, process, claim, outcome, retraction)
    await effects_are_exactly(stack, 99)
    await stack.rows("drop trigger rule on notify.ent_notification")
    await stack.rows("update notify.ent_notification set name = 'mended' where id = %s", retraction)  # noted now
    code, _, words = await run_command(stack, "retry", str(claim), str(outcome), "--yes")
    assert code == 0, words
    assert await stack.final(claim, outcome, within=20) == ["SENT", "SENT"]
    await effects_are_exactly(stack, 100)


async def names_them(stack: Stack, process: Process, claim: int, outcome: int, retraction: int) -> None:
    async with await process.http() as http:

        async def named() -> bool:
            return (await http.get("/readyz")).json().get("refused_rows") == 3

        await eventually(named, "a readiness that names three rows")
        assert (await http.get("/readyz")).status_code == 200, "all others are sent"
    check = (await run_doctor(stack)).checks["refused rows"]
    assert check["verdict"] == "warn"
    for each in (claim, outcome, retraction):
        assert f"row {each} " in check["value"]
    _, shown, _ = await run_command(stack, "show", str(outcome))
    assert shown["error"].startswith("Novu accepted it, but the table refuses the status SENT: no bad outcome in this")
    done = await asyncio.to_thread(run, stack, "list", "--dead-letters", "--json")
    assert {json.loads(line)["id"] for line in done.stdout.splitlines()} == {claim, outcome, retraction}
