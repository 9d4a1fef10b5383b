"""A committed row reaches Novu, through every real part."""

import asyncio
import json
from uuid import uuid4

import psycopg

from dispatcher.install import Options, install
from tests.support.invariants import find_violations, load_oracle
from tests.support.stack import Stack
from tests.support.waits import eventually


async def test_committed_row_is_sent(stack: Stack):
    await stack.running()
    recipient = uuid4()

    row = await stack.notify(recipients=[recipient], payload='{"amount": 1.10, "note": "ü 🚨"}')

    assert await stack.final(row) == ["SENT"]
    [effect] = await stack.novu.effects()
    assert effect.subscriber == str(recipient)
    details = await stack.details(row)
    assert details["novu_transaction_ids"] == [effect.transaction_id]
    assert details["results"] == [
        {"recipientId": str(recipient), "success": True, "transactionId": effect.transaction_id}
    ]
    assert details["successCount"] == details["totalRecipients"] == 1
    assert details["timestamp"]
    stored = await stack.rows(
        "select transaction_id, channels::text, processed_at is not null from notify.ent_notification where id = %s",
        row,
    )
    assert stored == [(effect.transaction_id, "{IN_APP}", True)]


async def test_payload_and_overrides_reach_novu_as_they_are_stored(stack: Stack):
    await stack.running()
    payload = (
        '{"exact": 0.10000000000000000055511151231257827, "big": 12345678901234567890123, "emoji": "\\ud83d\\ude00"}'
    )
    overrides = '{"fcm": {"badge": 1}, "email": {"subject": "Überschrift"}, "unknown": [1.0]}'

    row = await stack.notify(payload=payload, overrides=overrides)

    assert await stack.final(row) == ["SENT"]
    stored = await stack.rows("select payload::text, overrides::text from notify.ent_notification where id = %s", row)
    [request] = [request for request in await stack.novu.requests() if request.method == "POST"]
    body = await stack.novu.body(request.seq)
    assert body is not None
    assert f'"payload":{stored[0][0]},'.encode() in body
    assert f'"overrides":{stored[0][1]},'.encode() in body


async def test_transaction_id_of_the_producer_is_kept(stack: Stack):
    await stack.running()
    row = await stack.notify(transaction_id="theirs")
    assert await stack.final(row) == ["SENT"]
    assert await stack.value("select transaction_id from notify.ent_notification where id = %s", row) == "theirs"


async def test_three_recipients_get_one_trigger_each(stack: Stack):
    await stack.running()
    recipients = [uuid4() for _ in range(3)]
    row = await stack.notify(recipients=[*recipients, recipients[0]])
    assert await stack.final(row) == ["SENT"]
    assert sorted(effect.subscriber for effect in await stack.novu.effects()) == sorted(map(str, recipients))


async def test_draft_waits_until_it_is_published(stack: Stack):
    await stack.running()
    draft = await stack.notify(publish_status="DRAFT")
    assert await stack.final(await stack.notify()) == ["SENT"]
    assert await stack.status(draft) == "PENDING"

    await stack.rows("update notify.ent_notification set publish_status = 'PUBLISH' where id = %s", draft)

    assert await stack.final(draft) == ["SENT"]


async def test_scheduled_row_is_sent_when_due_and_not_before(stack: Stack):
    await stack.running()
    row = await stack.value(
        "insert into notify.ent_notification (name, publish_status, notification_workflow_id, payload, recipients,"
        " scheduled_for) values ('later', 'PUBLISH', %s, '{}', array[gen_random_uuid()],"
        " clock_timestamp() + interval '1.5 s') returning id",
        await stack.workflow(),
    )
    assert await stack.final(row) == ["SENT"]
    [request] = [request for request in await stack.novu.requests() if request.method == "POST"]
    late = await stack.value(
        "select %s - extract(epoch from scheduled_for)::float8 from notify.ent_notification where id = %s",
        request.started_at,
        row,
    )
    assert 0 <= late < 1  # a sweep would come only after 10 s


async def test_row_retracted_before_it_is_due_never_reaches_novu(stack: Stack):
    await stack.running()
    row = await stack.value(
        "insert into notify.ent_notification (name, publish_status, notification_workflow_id, payload, recipients,"
        " scheduled_for) values ('later', 'PUBLISH', %s, '{}', array[gen_random_uuid()],"
        " clock_timestamp() + interval '1 s') returning id",
        await stack.workflow(),
    )
    await stack.rows("update notify.ent_notification set notification_status = 'RETRACTED' where id = %s", row)

    async def past() -> bool:
        return await stack.value(
            "select clock_timestamp() > scheduled_for + interval '0.5 s' from notify.ent_notification where id = %s",
            row,
        )

    await eventually(past, "the time it was scheduled for")
    assert await stack.status(row) == "RETRACTED"
    assert (await stack.novu.summary()).requests == 0


async def test_busy_producers_send_few_notifies_and_every_row_arrives(stack: Stack):
    await stack.running()
    workflow = await stack.workflow()
    await stack.asleep()
    await stack.rows("create table public.seen_asleep (commits int)")
    # One transaction a row, some 1,500 a second from the two: more than one drain takes, for longer than one lasts. How
    # many commits meet a sleeping node depends on the machine's load. So each commit reads, before and after, whether a
    # node says "awake".
    awake = "exists (select from dispatcher.node where awake_until > clock_timestamp())"
    busy = f"""
        do $$ declare seen_asleep int := 0; awake_before boolean; begin for row in 1..1000 loop
          awake_before := {awake};
          commit;
          insert into notify.ent_notification (name, publish_status, notification_workflow_id, payload, recipients)
          values ('busy ' || gen_random_uuid(), 'PUBLISH', {workflow}, '{{}}', array[gen_random_uuid()]);
          commit;
          seen_asleep := seen_asleep + case when awake_before and {awake} then 0 else 1 end;
          perform pg_sleep(0.001);
        end loop; insert into public.seen_asleep values (seen_asleep); end $$""".encode()
    async with (
        await psycopg.AsyncConnection.connect(stack.url, autocommit=True) as ear,
        await psycopg.AsyncConnection.connect(stack.url, autocommit=True) as one,
        await psycopg.AsyncConnection.connect(stack.url, autocommit=True) as other,
    ):
        await ear.execute("listen dispatcher")
        await asyncio.gather(one.execute(busy), other.execute(busy))
        rings = [ring async for ring in ear.notifies(timeout=0.2)]
    seen_asleep = await stack.value("select sum(commits) from public.seen_asleep")
    assert len(rings) <= seen_asleep + 10, "a commit that a node polls for sends no NOTIFY"
    assert seen_asleep < 1_000, "nodes are awake for most commits"
    await stack.all_sent(2_000)


async def test_burst_is_sent_in_full_batches_and_one_that_enterprises_share(stack: Stack):
    await stack.running()
    await stack.burst(500, enterprises=3)
    await stack.all_sent(500)
    posts = [request for request in await stack.novu.requests() if request.method == "POST"]
    assert len(posts) <= 20
    batches = await stack.rows(
        "select count(*), count(distinct n.enterprise_id) from dispatcher.delivery d"
        " join notify.ent_notification n on n.id = d.notification_id group by d.workflow_id order by 2, 1"
    )
    assert [rows for rows, _ in batches] == [100] * 5, "166 rows of each enterprise: 100, and 66 left over"
    assert [owners for _, owners in batches][:3] == [1, 1, 1]


async def test_every_attempt_is_one_call_without_faults(stack: Stack):
    await stack.running()
    await stack.burst(200, enterprises=2)
    rows = [await stack.notify(recipients=[uuid4() for _ in range(count)]) for count in (1, 3, 30)]
    await stack.all_sent(203)
    assert await stack.value("select sum(attempts) from dispatcher.recipient") == 234, rows
    await load_oracle(stack.connection, stack.novu)
    assert await find_violations(stack.connection, uncalled=0) == {}


async def test_batch_size_one_starts_a_workflow_per_row(stack: Stack):
    await stack.running(DISPATCHER_BATCH_SIZE="1")
    await stack.burst(30)
    await stack.all_sent(30)
    assert await stack.value("select count(distinct workflow_id) from dispatcher.delivery") == 30


async def test_rows_arrive_with_the_next_sweep_without_triggers(stack: Stack):
    for trigger in ("dispatcher_insert", "dispatcher_update"):
        await stack.rows(f"drop trigger {trigger} on notify.ent_notification")
    await stack.running(DISPATCHER_SWEEP_INTERVAL="1s")
    await stack.burst(50)
    draft = await stack.notify(publish_status="DRAFT")
    await stack.all_sent(50)
    await stack.rows("update notify.ent_notification set publish_status = 'PUBLISH' where id = %s", draft)
    assert await stack.final(draft) == ["SENT"]


async def test_outbox_with_an_odd_name_is_served(stack: Stack):
    odd, workflow = 'notify."Ent""Notif"', 'notify."Ent""Notif_workflow"'
    await stack.rows('alter table notify.ent_notification_workflow rename to "Ent""Notif_workflow"')
    await stack.rows('alter table notify.ent_notification rename to "Ent""Notif"')
    await install(stack.url, Options(outbox=odd))
    # The test and its invariants go on under the old names.
    await stack.rows(f"create view notify.ent_notification as select * from {odd}")
    await stack.rows(f"create view notify.ent_notification_workflow as select * from {workflow}")
    await stack.running(DISPATCHER_OUTBOX=odd)
    assert await stack.final(await stack.notify()) == ["SENT"]
    await stack.burst(30)
    await stack.all_sent(31)


async def test_rows_arrive_by_polling_without_a_listener(stack: Stack):
    process = stack.start(DISPATCHER_NOTIFY_MODE="off")
    row = await stack.notify()
    assert await stack.final(row) == ["SENT"]
    assert '"listening"' not in process.read_log()


async def test_allow_list_excludes_other_enterprises(stack: Stack):
    ours, theirs = uuid4(), uuid4()
    await stack.running(DISPATCHER_ENTERPRISE_IDS=str(ours))
    foreign = await stack.notify(enterprise_id=theirs)
    assert await stack.final(await stack.notify(enterprise_id=ours)) == ["SENT"]
    assert await stack.status(foreign) == "PENDING"
    await stack.rows("update notify.ent_notification set publish_status = 'DISCARD' where id = %s", foreign)


async def test_only_ids_enter_temporal(stack: Stack):
    await stack.running()
    marker = f"secret-{uuid4().hex}"
    row = await stack.notify(payload=json.dumps({"text": marker}), name=marker, overrides=json.dumps({"x": marker}))
    assert await stack.final(row) == ["SENT"]
    assert marker not in await history(stack, row)
    assert marker not in stack.log_tails()


async def history(stack: Stack, row: int) -> str:
    """Return a notification's whole Temporal history as text."""
    from temporalio.client import Client

    client = await Client.connect(stack.temporal_address)
    workflow_id = await stack.value("select workflow_id from dispatcher.delivery where notification_id = %s", row)
    return (await client.get_workflow_handle(workflow_id).fetch_history()).to_json()
