"""Unusual rows are refused with a reason or sent byte for byte, and other rows are not affected."""

from typing import Any
from uuid import uuid4

from tests.support.stack import Stack


async def sent_body(stack: Stack) -> tuple[int, bytes]:
    [request] = [request for request in await stack.novu.requests() if request.method == "POST"]
    return request.seq, await stack.novu.body(request.seq) or b""


async def test_f100_empty_payload_is_sent(stack: Stack):
    await stack.running()
    assert await stack.final(await stack.notify(payload="{}")) == ["SENT"]
    assert b'"payload":{}' in (await sent_body(stack))[1]


async def test_f103_odd_postgres_arrays_are_read(stack: Stack):
    await stack.running()
    a, b = uuid4(), uuid4()
    rows = [await stack.notify(publish_status="DRAFT") for _ in range(2)]
    await stack.rows(
        "update notify.ent_notification set recipients = array[[%s, %s], [%s, %s]]::uuid[] where id = %s",
        a,
        b,
        b,
        a,
        rows[0],
    )
    await stack.rows(
        f"update notify.ent_notification set recipients = '[7:8]={{{a},{b}}}'::uuid[] where id = %s", rows[1]
    )
    await stack.rows("update notify.ent_notification set publish_status = 'PUBLISH' where id = any(%s)", rows)
    assert await stack.final(*rows) == ["SENT", "SENT"]
    assert sorted(effect.subscriber for effect in await stack.novu.effects()) == sorted([str(a), str(b)] * 2)


async def test_f105_five_megabytes_are_refused_and_not_logged(stack: Stack):
    process = await stack.running()
    row = await stack.notify(payload='{"x": "' + "marker" * 900_000 + '"}')
    assert await stack.final(row) == ["FAILED"]
    assert "the limit is 524288" in (await stack.details(row))["error"]
    assert "markermarker" not in process.read_log()
    assert (await stack.novu.summary()).requests == 0


async def test_f106_any_text_reaches_novu_unchanged(stack: Stack):
    await stack.running()
    payload = (
        '{"__proto__": {"a": 1}, "emoji": "👩‍🚒", "rtl": "\u202eabc", "zero": "a\u200bb", "nfc": "é", "nfd": "e\u0301"}'
    )
    row = await stack.notify(payload=payload)
    assert await stack.final(row) == ["SENT"]
    stored = await stack.value("select payload::text from notify.ent_notification where id = %s", row)
    assert f'"payload":{stored}'.encode() in (await sent_body(stack))[1]


async def test_f108_numbers_beyond_float_are_sent_unchanged(stack: Stack):
    await stack.running()
    row = await stack.notify(payload=f'{{"big": 1{"0" * 400}.5, "fine": 0.12345678901234567891}}')
    assert await stack.final(row) == ["SENT"]
    stored = await stack.value("select payload::text from notify.ent_notification where id = %s", row)
    assert f'"payload":{stored}'.encode() in (await sent_body(stack))[1]


async def test_f109_times_beyond_python_are_handled(stack: Stack):
    await stack.running()
    never = await stack.notify(scheduled_for="294276-12-31 00:00:00+00")
    long_ago: dict[str, Any] = {"scheduled_for": "4713-01-01 00:00:00+00 BC"}
    assert await stack.final(await stack.notify(**long_ago), await stack.notify()) == ["SENT", "SENT"]
    assert await stack.status(never) == "PENDING"
