"""Faults of TLS: a server without a valid certificate gets no key and no notification from us."""

import asyncio
import ssl
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from dispatcher.devstack.fake_novu.process import FakeNovu
from dispatcher.devstack.temporal import TemporalServer
from dispatcher.models.call_result import AnswerClass, TriggerEvent
from dispatcher.models.errors import ConfigurationError, Unreachable
from dispatcher.novu.client import NovuClient
from dispatcher.temporal import client as temporal
from tests.faults.tls_server import Authority, TlsServer, old_protocols, tls_before
from tests.faults.waits import effects_are_exactly
from tests.support.stack import Stack
from tests.support.waits import eventually

NAME = "IP:127.0.0.1"
EVENT = TriggerEvent("default-in-app", "somebody", "tx", "{}", None)


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "trusted").found()


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "stranger").found()


def port_of(novu: FakeNovu) -> int:
    return urlsplit(novu.url).port or 0


async def test_private_certificate_authority_is_trusted_if_named(
    novu: FakeNovu, trusted: Authority, monkeypatch: pytest.MonkeyPatch
):
    async with tls_before(port_of(novu), trusted.certify(NAME)) as server:
        url = f"https://127.0.0.1:{server.port}"
        unnamed = NovuClient(novu.api_key, url)
        with pytest.raises(Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
            await unnamed.check_reachable()
        await unnamed.aclose()
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted.root.chain))
        named = NovuClient(novu.api_key, url)
        await named.check_reachable()
        assert [each.answer_class for each in await named.trigger([EVENT], "key", 5)] == [AnswerClass.ACCEPTED]
        await named.aclose()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("expired", "certificate has expired"),
        ("wrong name", "mismatch"),
        ("self-signed", "self-signed certificate"),
        ("unknown authority", "unable to get local issuer certificate"),
        ("TLS 1.1", "ConnectError"),
    ],
)
async def test_f93_novu_with_a_bad_certificate_gets_nothing(
    novu: FakeNovu, trusted: Authority, stranger: Authority, wrong: str, said: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted.root.chain))
    certificate = {
        "expired": lambda: trusted.certify(NAME, days=-1),
        "wrong name": lambda: trusted.certify("DNS:api.novu.co"),
        "self-signed": lambda: stranger.root,
        "unknown authority": lambda: stranger.certify(NAME),
        "TLS 1.1": lambda: trusted.certify(NAME),
    }[wrong]()
    async with tls_before(port_of(novu), certificate) as server:
        if wrong == "TLS 1.1":
            old_protocols(server.context)
            await an_old_client_gets_through(server)
        client = NovuClient(novu.api_key, f"https://127.0.0.1:{server.port}")
        with pytest.raises(Unreachable, match=said):
            await client.check_reachable()
        [outcome] = await client.trigger([EVENT], "key", 5)
        assert (outcome.answer_class, outcome.code) == (AnswerClass.RETRY, "not_sent")
        assert not await client.is_available()
        await client.aclose()
        assert (await novu.summary()).requests == 0
        assert server.served == (1 if wrong == "TLS 1.1" else 0)


async def an_old_client_gets_through(server: TlsServer) -> None:
    """Prove that it is the protocol, and nothing else, which keeps us away."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    old_protocols(context)
    _, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context)
    assert writer.get_extra_info("ssl_object").version() in ("TLSv1", "TLSv1.1")
    writer.close()


@pytest.mark.slow
async def test_f93_certificate_that_expires_while_running_is_waited_for(stack: Stack, trusted: Authority):
    async with tls_before(stack.novu_port, trusted.certify(NAME)) as server:
        url = f"https://127.0.0.1:{server.port}"
        process = await stack.running(NOVU_API_URL=url, SSL_CERT_FILE=str(trusted.root.chain))
        assert await stack.final(await stack.notify()) == ["SENT"]
        served = server.served
        server.show(trusted.certify(NAME, days=-1))
        row = await stack.notify()

        async def written_down() -> bool:
            return await stack.value(
                "select exists (select from dispatcher.recipient where notification_id = %s and outcome = 'not_sent')",
                row,
            )

        await eventually(written_down, f"a call that did not leave; log:\n{process.read_log()[-2000:]}")
        assert server.served == served, "no call completed with the old certificate"
        await effects_are_exactly(stack, 1)
        server.show(trusted.certify(NAME))
        assert await stack.final(row) == ["SENT"]
        await effects_are_exactly(stack, 2)


async def test_f71_temporal_with_a_bad_certificate_is_refused(
    temporal_server: TemporalServer, trusted: Authority, stranger: Authority
):
    async with tls_before(temporal_server.port, trusted.certify(NAME), alpn="h2") as server:
        known = settings(server.port, trusted.root.chain)
        assert await temporal.connect_to_namespace(known, create_namespace=False)
        served = server.served
        with pytest.raises(Unreachable, match=r"TEMPORAL_ADDRESS: .*InvalidCertificate.*TEMPORAL_TLS_"):
            await temporal.connect_to_namespace(settings(server.port, stranger.root.chain), create_namespace=False)
        server.show(trusted.certify(NAME, days=-1))
        with pytest.raises(Unreachable, match=r"TEMPORAL_ADDRESS: .*InvalidCertificate.*TEMPORAL_TLS_"):
            await temporal.connect_to_namespace(known, create_namespace=False)
        assert served == server.served


async def test_f71_expired_credentials_and_missing_namespace_are_one_line(
    temporal_server: TemporalServer, trusted: Authority
):
    async with tls_before(temporal_server.port, trusted.certify(NAME), alpn="h2") as server:
        server.context.load_verify_locations(trusted.root.chain)
        server.context.verify_mode = ssl.CERT_REQUIRED
        for days, accepted in ((2, True), (-1, False)):
            me = trusted.certify(NAME, days=days)
            credentials = {
                **settings(server.port, trusted.root.chain),
                "TEMPORAL_TLS_CLIENT_CERT_PATH": str(me.chain),
                "TEMPORAL_TLS_CLIENT_KEY_PATH": str(me.key),
            }
            if accepted:
                assert await temporal.connect_to_namespace(credentials, create_namespace=False)
            else:
                with pytest.raises(Unreachable, match="TEMPORAL_ADDRESS"):
                    await temporal.connect_to_namespace(credentials, create_namespace=False)
        with pytest.raises(ConfigurationError, match="TEMPORAL_NAMESPACE: 'elsewhere' does not exist"):
            await temporal.connect_to_namespace(
                {"TEMPORAL_ADDRESS": temporal_server.address, "TEMPORAL_NAMESPACE": "elsewhere"},
                create_namespace=False,
            )


def settings(port: int, authority: Path) -> dict[str, str]:
    return {"TEMPORAL_ADDRESS": f"127.0.0.1:{port}", "TEMPORAL_TLS_SERVER_CA_CERT_PATH": str(authority)}
