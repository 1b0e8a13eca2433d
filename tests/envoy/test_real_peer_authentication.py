"""Who gets through which handshake under each mTLS mode, with a real Envoy (features rows N1, N2).

Certificates come from files here and not from the agent; everything else of the chains is as compiled.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2

from e2e.harness.ports import free_ports
from istiod.envoy import listener, wellknown
from istiod.mesh import inbound_chains
from istiod.mesh.inbound_chains import Target
from istiod.mesh.policy import MutualTls
from istiod.mesh.route import DirectResponse
from istiod.mesh.scope import Direction, Listener
from istiod.mesh.service import Protocol
from tests import envoys
from tests.envoy import made
from tests.waiting import until

pytestmark = pytest.mark.envoy
HOUR = dt.timedelta(hours=1)
PEM = serialization.Encoding.PEM
GOOD = "spiffe://cluster.local/ns/default/sa/client"


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """A CA of its own."""

    key: ec.EllipticCurvePrivateKey
    name: x509.Name

    def certificate(self) -> bytes:
        built = self._builder(self.name, self.key, HOUR)
        built = built.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        return built.sign(self.key, hashes.SHA256()).public_bytes(PEM)

    def leaf(self, folder: Path, name: str, identity: str, left: dt.timedelta = HOUR) -> Path:
        """A certificate with its key in one file."""
        key = ec.generate_private_key(ec.SECP256R1())
        built = self._builder(x509.Name([]), key, left)
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity)])
        signed = built.add_extension(names, critical=True).sign(self.key, hashes.SHA256())
        private = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        path = folder / f"{name}.pem"
        path.write_bytes(signed.public_bytes(PEM) + private)
        return path

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, left: dt.timedelta
    ) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        return x509.CertificateBuilder(
            issuer_name=self.name,
            subject_name=subject,
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now - 3 * HOUR,
            not_valid_after=now + left,
        )


def root(name: str) -> Root:
    said = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, name)])
    return Root(key=ec.generate_private_key(ec.SECP256R1()), name=said)


def chains(port: int, protocol: Protocol, mode: MutualTls, folder: Path) -> listener_pb2.Listener:
    """A listener with the chains of one port of a workload, its secrets out of files."""
    answer = made.route(direct_response=DirectResponse(status=200, body=b""))
    target = Target(
        port=port,
        http_name="http",
        tcp_name="tcp",
        http_stats="x",
        cluster="nowhere",
        routes=made.table(made.virtual_host(routes=[answer], domains=("*",))),
        origin=None,
    )
    found = Listener(
        name="l",
        address="127.0.0.1",
        port=port,
        direction=Direction.INBOUND,
        chains=inbound_chains.chains(target, protocol, mode),
        inspect_tls=True,
        inspect_http=True,
    )
    message = listener.message(found, made.QUIET)
    for chain in message.filter_chains:
        if chain.HasField("transport_socket"):
            context = tls_pb2.DownstreamTlsContext()
            assert chain.transport_socket.typed_config.Unpack(context)
            common = context.common_tls_context
            common.ClearField("tls_certificate_sds_secret_configs")
            both = {"certificate_chain": {"filename": str(folder / "server.pem")}}
            common.tls_certificates.add(**both, private_key={"filename": str(folder / "server.pem")})
            validation = common.combined_validation_context.default_validation_context
            validation.trusted_ca.filename = str(folder / "root.pem")
            common.validation_context.CopyFrom(validation)
            chain.transport_socket.typed_config.CopyFrom(wellknown.packed(context))
    return message


class Callers:
    """Clients of all kinds; each says whether the app's answer came."""

    def __init__(self, port: int, folder: Path) -> None:
        self._port = port
        self._folder = folder

    async def plain(self) -> bool:
        return await self._call(None)

    async def tls(self, certificate: str = "", alpn: str = "istio-http/1.1") -> bool:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(self._folder / "root.pem")
        if alpn:
            context.set_alpn_protocols([alpn])
        if certificate:
            context.load_cert_chain(self._folder / f"{certificate}.pem")
        return await self._call(context)

    async def _call(self, context: ssl.SSLContext | None) -> bool:
        try:
            async with asyncio.timeout(10):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port, ssl=context)
                writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                line = await reader.readline()
        except (OSError, ssl.SSLError):
            return False
        writer.close()
        return b" 200 " in line


@contextlib.asynccontextmanager
async def workload(folder: Path, protocol: Protocol, mode: MutualTls) -> AsyncIterator[Callers]:
    ours, theirs = root("ours"), root("theirs")
    (folder / "root.pem").write_bytes(ours.certificate())
    ours.leaf(folder, "server", "spiffe://cluster.local/ns/default/sa/server")
    ours.leaf(folder, "good", GOOD)
    ours.leaf(folder, "expired", GOOD, left=-HOUR)
    ours.leaf(folder, "domain", "spiffe://other.domain/ns/default/sa/client")
    ours.leaf(folder, "almost", "spiffe://cluster.local.evil/ns/default/sa/client")
    theirs.leaf(folder, "foreign", GOOD)
    (port,) = free_ports(1)
    config = bootstrap_pb2.Bootstrap()
    config.static_resources.listeners.append(chains(port, protocol, mode, folder))
    path = folder / "bootstrap.pb"
    path.write_bytes(config.SerializeToString())
    process = await asyncio.create_subprocess_exec(
        envoys.binary(), *("-c", str(path), "--disable-hot-restart", "--concurrency", "1", "--log-level", "error")
    )
    callers = Callers(port, folder)
    try:
        welcome = callers.plain if mode is not MutualTls.STRICT else lambda: callers.tls("good")
        await until(welcome, "Envoy listens")
        yield callers
    finally:
        process.terminate()
        await process.wait()


REFUSED = ("expired", "foreign", "domain", "almost", "")


@pytest.mark.parametrize("protocol", [Protocol.HTTP, Protocol.UNSUPPORTED])
async def test_under_strict_only_identities_of_the_mesh_come_in(protocol: Protocol, tmp_path: Path) -> None:
    """Rows SEC19, SEC55 of the hostile inputs."""
    async with workload(tmp_path, protocol, MutualTls.STRICT) as call:
        assert not await call.plain()
        assert {name: await call.tls(name) for name in REFUSED} == dict.fromkeys(REFUSED, False)
        assert {name: await call.tls(name, alpn="h2") for name in REFUSED} == dict.fromkeys(REFUSED, False)
        assert await call.tls("good")


@pytest.mark.parametrize("protocol", [Protocol.HTTP, Protocol.UNSUPPORTED])
async def test_under_permissive_plaintext_comes_in_too_and_mtls_is_as_strict(
    protocol: Protocol, tmp_path: Path
) -> None:
    async with workload(tmp_path, protocol, MutualTls.PERMISSIVE) as call:
        assert await call.plain()
        assert await call.tls("good")
        assert {name: await call.tls(name) for name in REFUSED} == dict.fromkeys(REFUSED, False)


@pytest.mark.parametrize("protocol", [Protocol.HTTP, Protocol.UNSUPPORTED])
async def test_under_disable_nobody_ends_tls(protocol: Protocol, tmp_path: Path) -> None:
    async with workload(tmp_path, protocol, MutualTls.DISABLE) as call:
        assert await call.plain()
        assert not await call.tls("good")
