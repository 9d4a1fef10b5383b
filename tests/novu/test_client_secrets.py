"""Our key in an answer of Novu, or of a proxy before it, reaches no outcome, so no row and no log."""

from collections.abc import Iterator

import httpx
import pytest

from dispatcher.decisions.classification import MAX_DETAIL_CHARS
from dispatcher.models.call_result import TriggerEvent
from dispatcher.novu.client import NovuClient, error_text
from dispatcher.telemetry.redaction import process_secrets
from tests.novu.odd_server import answering, reply

KEY = "0123456789abcdef0123456789abcdef"
EVENT = TriggerEvent("welcome", "ana", "tx-ana", "{}", None)
ECHO = b"you sent authorization: ApiKey %s" % KEY.encode()


@pytest.fixture(autouse=True)
def _known() -> Iterator[None]:
    process_secrets.set([KEY])
    yield
    process_secrets.set([])


ANSWERS = {
    "message": reply("400 Bad Request", b'{"message": "%s"}' % ECHO),
    "list of messages": reply("422 Unprocessable", b'{"message": ["a", "%s"]}' % ECHO),
    "page": reply("502 Bad Gateway", b"<html>%s</html>" % ECHO, kind="text/html"),
    "account": reply("401 Unauthorized", b'{"message": "%s"}' % ECHO),
    "item": reply("201 Created", b'{"data": {"status": "error", "error": ["%s"]}}' % ECHO),
    "status": reply("201 Created", b'{"data": {"status": "%s"}}' % ECHO),
    "at the cut": reply("500 Error", b" " * (MAX_DETAIL_CHARS - 20) + KEY.encode(), kind="text/plain"),
    "no utf-8": reply("500 Error", b"\xff\xfe" + ECHO, kind="text/plain"),
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_f222_key_in_an_answer_reaches_no_outcome(name: str):
    async with answering(ANSWERS[name]) as server:
        client = NovuClient(KEY, server.url)
        [outcome] = await client.trigger([EVENT], "key-1", 5)
        looked_up = await client.look_up(EVENT, 5)
        cancelled = await client.cancel("tx-ana", 5)
        await client.aclose()
    for found in (outcome, looked_up, cancelled):
        assert KEY[:8] not in found.detail, found
    assert outcome.detail


def test_f222_key_in_an_error_of_the_http_library_is_hidden():
    assert KEY not in error_text(httpx.ReadError(f"peer said {KEY}"))
