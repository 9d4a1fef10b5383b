"""Certificates made on the spot, and a server that shows them."""

import shutil
import ssl
import subprocess
import warnings
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.proxy import FaultProxy, proxied

KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, as files."""

    chain: Path
    key: Path


def openssl(*arguments: str | Path) -> None:
    """Run the program."""
    program = shutil.which("openssl")
    assert program, "these tests make certificates with the program openssl: apt-get install openssl"
    subprocess.run([program, *map(str, arguments)], check=True, capture_output=True)


@dataclass(frozen=True)
class Authority:
    """A certificate authority in a folder."""

    folder: Path

    @property
    def root(self) -> Certificate:
        """The authority's own certificate: trusted, or a self-signed one."""
        return Certificate(self.folder / "root.pem", self.folder / "root.key")

    def found(self) -> "Authority":
        """Make the root."""
        self.folder.mkdir()
        names = ("-subj", "/CN=A test's authority", "-addext", "subjectAltName=IP:127.0.0.1")
        openssl("req", "-x509", *KEY, "-keyout", self.root.key, "-out", self.root.chain, "-days", "2", *names)
        return self

    def certify(self, name: str, *, days: int = 2) -> Certificate:
        """Return a certificate for `name`, valid so many days from now."""
        base = self.folder / f"{name.replace(':', '-')}-{days}"
        request, extensions = base.with_suffix(".csr"), base.with_suffix(".ext")
        certificate = Certificate(base.with_suffix(".pem"), base.with_suffix(".key"))
        extensions.write_text(f"subjectAltName={name}\n")
        openssl("req", *KEY, "-keyout", certificate.key, "-out", request, "-subj", "/CN=a test's server")
        signing = ("-CA", self.root.chain, "-CAkey", self.root.key, "-CAcreateserial", "-extfile", extensions)
        openssl("x509", "-req", "-in", request, *signing, "-days", str(days), "-out", certificate.chain)
        return certificate


@dataclass(frozen=True)
class TlsServer:
    """A server that speaks TLS: a proxy before one that does not."""

    proxy: FaultProxy
    context: ssl.SSLContext

    @property
    def port(self) -> int:
        """Where it listens, on loopback."""
        return self.proxy.port

    @property
    def served(self) -> int:
        """How many handshakes it finished."""
        return self.proxy.counts["accepted"]

    def show(self, certificate: Certificate) -> None:
        """Show another certificate from now on, and end what is there."""
        self.context.load_cert_chain(certificate.chain, certificate.key)
        self.proxy.reset()


def old_protocols(context: ssl.SSLContext) -> None:
    """Speak TLS 1.0 and 1.1 only."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1


@asynccontextmanager
async def tls_before(port: int, certificate: Certificate, *, alpn: str = "http/1.1") -> AsyncGenerator[TlsServer]:
    """Run one for the block."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.chain, certificate.key)
    context.set_alpn_protocols([alpn])
    async with proxied("127.0.0.1", port, context) as proxy:
        yield TlsServer(proxy, context)
