"""Rows no one would write on purpose: refused in words or sent byte for byte, and their neighbours untouched."""

from typing import Any
from uuid import uuid4

from house import House


async def sent_body(house: House) -> tuple[int, bytes]:
    [request] = [request for request in await house.novu.requests() if request.method == "POST"]
    return request.seq, await house.novu.body(request.seq) or b""


async def test_f100_an_empty_payload_is_a_payload(house: House):
    await house.running()
    assert await house.final(await house.notify(payload="{}")) == ["SENT"]
    assert b'"payload":{}' in (await sent_body(house))[1]


async def test_f103_arrays_as_only_postgres_has_them(house: House):
    await house.running()
    a, b = uuid4(), uuid4()
    rows = [await house.notify(publish_status="DRAFT") for _ in range(2)]
    await house.rows(
        "update notify.ent_notification set recipients = array[[%s, %s], [%s, %s]]::uuid[] where id = %s",
        a,
        b,
        b,
        a,
        rows[0],
    )
    await house.rows(
        f"update notify.ent_notification set recipients = '[7:8]={{{a},{b}}}'::uuid[] where id = %s", rows[1]
    )
    await house.rows("update notify.ent_notification set publish_status = 'PUBLISH' where id = any(%s)", rows)
    assert await house.final(*rows) == ["SENT", "SENT"]
    assert sorted(effect.subscriber for effect in await house.novu.effects()) == sorted([str(a), str(b)] * 2)


async def test_f105_five_megabytes_are_refused_and_not_logged(house: House):
    process = await house.running()
    row = await house.notify(payload='{"x": "' + "marker" * 900_000 + '"}')
    assert await house.final(row) == ["FAILED"]
    assert "Novu takes at most 524288" in (await house.details(row))["error"]
    assert "markermarker" not in process.words()
    assert (await house.novu.summary()).requests == 0


async def test_f106_any_letter_reaches_novu_as_it_is(house: House):
    await house.running()
    payload = (
        '{"__proto__": {"a": 1}, "emoji": "👩‍🚒", "rtl": "\u202eabc", "zero": "a\u200bb", "nfc": "é", "nfd": "e\u0301"}'
    )
    row = await house.notify(payload=payload)
    assert await house.final(row) == ["SENT"]
    stored = await house.value("select payload::text from notify.ent_notification where id = %s", row)
    assert f'"payload":{stored}'.encode() in (await sent_body(house))[1]


async def test_f108_numbers_no_float_can_hold(house: House):
    await house.running()
    row = await house.notify(payload=f'{{"big": 1{"0" * 400}.5, "fine": 0.12345678901234567891}}')
    assert await house.final(row) == ["SENT"]
    stored = await house.value("select payload::text from notify.ent_notification where id = %s", row)
    assert f'"payload":{stored}'.encode() in (await sent_body(house))[1]


async def test_f109_times_no_python_can_hold(house: House):
    await house.running()
    never = await house.notify(scheduled_for="294276-12-31 00:00:00+00")
    long_ago: dict[str, Any] = {"scheduled_for": "4713-01-01 00:00:00+00 BC"}
    assert await house.final(await house.notify(**long_ago), await house.notify()) == ["SENT", "SENT"]
    assert await house.status(never) == "PENDING"
