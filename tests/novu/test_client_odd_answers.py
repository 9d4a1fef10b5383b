"""The client and answers no Novu should give: each ends as an outcome, none as an exception, none as acceptance."""

import gzip
import json

import pytest

from dispatcher.models.call_result import AnswerClass, TriggerEvent
from dispatcher.models.errors import Unreachable
from dispatcher.novu.client import NovuClient
from tests.novu.odd_server import answering, reply

EVENTS = [TriggerEvent("welcome", name, f"tx-{name}", "{}", None) for name in ("ana", "bo")]
PROCESSED = b'{"data": {"acknowledged": true, "status": "processed", "transactionId": "tx-ana"}}'

ODD = {
    "html": reply("200 OK", b"<html><h1>processed</h1></html>", kind="text/html"),
    "html 502": reply("502 Bad Gateway", b"<html>bad client</html>", kind="text/html"),
    "empty": reply("201 Created"),
    "no content": b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n",
    "half an answer": reply("201 Created", PROCESSED)[:-10],
    "half a header": b"HTTP/1.1 201 Cre",
    "no answer": b"",
    "not http": b"SSH-2.0-OpenSSH_9.2\r\n",
    "broken json": reply("201 Created", PROCESSED[:-3]),
    "deep json": reply("201 Created", b'{"data":' * 3000 + b"1" + b"}" * 3000),
    "status that is a list": reply("201 Created", b'{"data": {"acknowledged": true, "status": ["processed"]}}'),
    "deep error": reply("400 Bad Request", b'{"message":' * 3000 + b"1" + b"}" * 3000),
    "not utf-8": reply("201 Created", b'{"data": "\xff\xfe"}'),
    "unknown charset": reply("400 Bad Request", b"\xff", kind="application/json; charset=no-such"),
    "broken gzip": reply("201 Created", b"\x1f\x8b\x08 broken", "content-encoding: gzip"),
    "unknown status": reply("201 Created", b'{"data": {"acknowledged": true, "status": "queued"}}'),
    "no status": reply("201 Created", b'{"data": {"acknowledged": true}}'),
    "a list": reply("201 Created", b"[]"),
    "null": reply("201 Created", b"null"),
    "a wrong number": reply("201 Created", b'{"data": [{"acknowledged": true, "status": "processed"}]}'),
    "nul and surrogate": reply("400 Bad Request", b'{"statusCode": 400, "message": ["\\u0000 \\ud800"]}'),
    "redirect": reply("302 Found", b"", "location: http://127.0.0.1:1/elsewhere"),
    "redirect to nowhere": reply("308 Permanent Redirect", b"", "location: http://["),
    "bare 429": reply("429 Too Many Requests", b"slow down", kind="text/plain"),
    "bare 503": reply("503 Service Unavailable", b'"Service Unavailable"'),
    "status 999": reply("999 Odd", b"{}"),
}


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("name", ODD)
async def test_odd_answer_is_never_acceptance(name: str, count: int):
    async with answering(ODD[name]) as server:
        client = NovuClient("secret", server.url)
        outcomes = await client.trigger(EVENTS[:count], "key-1", 5)
        await client.aclose()
    assert len(outcomes) == count
    for outcome in outcomes:
        assert outcome.answer_class in (
            AnswerClass.UNKNOWN,
            AnswerClass.REFUSED,
            AnswerClass.REFUSED_TOGETHER,
            AnswerClass.RETRY,
            AnswerClass.THROTTLED,
        )
        assert outcome.detail.isprintable()
        outcome.detail.encode()  # a lone surrogate would raise
    assert len(server.requests) == 1  # the SDK repeats nothing


async def test_answer_in_another_envelope_is_read():
    packed = gzip.compress(PROCESSED)
    for raw in (
        reply("200 OK", PROCESSED),
        reply("201 Created", packed, "content-encoding: gzip"),
        reply("201 Created", PROCESSED, kind="text/plain"),
        reply("201 Created", json.dumps({"data": {"status": "processed"}, "more": 1}).encode()),
    ):
        async with answering(raw) as server:
            client = NovuClient("secret", server.url)
            [outcome] = await client.trigger(EVENTS[:1], "key-1", 5)
            await client.aclose()
        assert outcome.answer_class is AnswerClass.ACCEPTED


@pytest.mark.parametrize("trickle", [b"", b"HTTP/1.1 201 Created\r\n", reply("201 Created", PROCESSED)[:-5]])
async def test_endless_answer_is_unknown_after_the_timeout(trickle: bytes):
    async with answering(trickle, hang=True) as server:
        client = NovuClient("secret", server.url)
        [outcome] = await client.trigger(EVENTS[:1], "key-1", 0.3)
        await client.aclose()
    assert (outcome.answer_class, outcome.code) == (AnswerClass.UNKNOWN, "timeout")


async def test_trigger_does_not_follow_a_redirect_with_our_key():
    async with answering(reply("201 Created", PROCESSED)) as thief:
        redirect = reply("307 Temporary Redirect", b"", f"location: {thief.url}/v1/events/trigger")
        async with answering(redirect) as server:
            client = NovuClient("secret", server.url)
            [outcome] = await client.trigger(EVENTS[:1], "key-1", 5)
            with pytest.raises(Unreachable, match="HTTP 307"):
                await client.check_reachable()
            await client.aclose()
    assert outcome.answer_class is AnswerClass.UNKNOWN
    assert thief.requests == []


async def test_proxy_and_credentials_of_the_environment_are_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
):
    netrc = tmp_path_factory.mktemp("home") / "netrc"
    netrc.write_text("machine 127.0.0.1 login thief password thief\n")
    async with (
        answering(reply("201 Created", PROCESSED)) as proxy,
        answering(reply("201 Created", PROCESSED)) as server,
    ):
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.setenv("NETRC", str(netrc))
        client = NovuClient("secret", server.url)
        [outcome] = await client.trigger(EVENTS[:1], "key-1", 5)
        await client.aclose()
    assert outcome.answer_class is AnswerClass.ACCEPTED
    assert proxy.requests == []
    [request] = server.requests
    assert "authorization: apikey secret" in request.lower()


async def test_lost_connection_differs_from_a_refused_one():
    async with answering(b"") as server:
        client = NovuClient("secret", server.url)
        [lost] = await client.trigger(EVENTS[:1], "key-1", 5)
    [refused] = await client.trigger(EVENTS[:1], "key-1", 5)
    await client.aclose()
    assert (lost.answer_class, lost.code) == (AnswerClass.UNKNOWN, "connection_lost")
    assert (refused.answer_class, refused.code) == (AnswerClass.RETRY, "not_sent")
