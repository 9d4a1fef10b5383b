"""A row that is sent again after the ledger has forgotten its recipients."""

import os
from pathlib import Path

from tests.support.commands import run_dispatcher
from tests.support.stack import Stack, as_run_role
from tests.support.waits import eventually


async def test_f232_resend_after_prune_is_a_new_identity_and_delivered_once(stack: Stack):
    await stack.running()
    again, once = await stack.notify(), await stack.notify()
    assert await stack.final(again, once) == ["SENT", "SENT"]
    await stack.rows(
        "update dispatcher.delivery set settled_at = settled_at - interval '2 years',"
        " claimed_at = claimed_at - interval '2 years', first_claimed_at = first_claimed_at - interval '2 years'"
    )
    await stack.rows("create table public.before_the_prune as select * from dispatcher.recipient")
    pruned = run_dispatcher(
        "db", "prune", cwd=Path("/"), environment={"DATABASE_URL": as_run_role(stack.url), "HOME": os.environ["HOME"]}
    )
    assert pruned.stdout.startswith("pruned 2 recipients and 0 heads"), pruned
    await stack.rows("update notify.ent_notification set notification_status = 'PENDING' where id = %s", again)

    async def sent_again() -> bool:
        return await stack.value(
            "select settled_at > now() - interval '1 d' from dispatcher.delivery where notification_id = %s", again
        )

    await eventually(sent_again, "the second sending")
    recipient = await stack.value("select recipients[1]::text from notify.ent_notification where id = %s", again)
    first, second = [each for each in await stack.novu.effects() if each.subscriber == recipient]
    assert first.transaction_id != second.transaction_id
    assert await stack.value("select generation from dispatcher.delivery where notification_id = %s", again) == 2
    assert len(await stack.novu.effects()) == 3
    # The invariants that are checked after the test compare every call and its time with the ledger.
    await stack.rows("update dispatcher.delivery set settled_at = settled_at + interval '2 years' where generation = 1")
    await stack.rows("insert into dispatcher.recipient select * from public.before_the_prune")
