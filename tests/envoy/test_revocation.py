"""caCrl on a running Envoy: a server whose certificate is on the list is refused. Roots come from the agent's SDS."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from envoy.config.bootstrap.v3 import bootstrap_pb2
from google.protobuf import json_format

from agent.bootstrap import clusters
from agent.bootstrap.inputs import DEFAULTS, Inputs
from agent.sds import secrets, server
from e2e.harness.ports import free_ports
from istiod.envoy import cluster, listener
from istiod.mesh.policy import TlsMode
from istiod.mesh.scope import Discovery, UpstreamTls
from tests import envoys
from tests.ads.real_envoy import until
from tests.envoy import made
from tests.envoy.test_running_envoy import answers, get, outbound
from wire import names

pytestmark = pytest.mark.envoy
HOUR = dt.timedelta(hours=1)
PEM = serialization.Encoding.PEM


def write(folder: Path) -> None:
    """A CA, one certificate of it, and lists that name that certificate or none.

    The files are ca.pem, cert.pem, key.pem, revoked.crl and empty.crl.
    """
    key, own = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ca")])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(issuer_name=name, not_valid_before=now - HOUR, not_valid_after=now + HOUR)
    root = builder.subject_name(name).public_key(key.public_key()).serial_number(1)
    root = root.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    leaf = builder.subject_name(x509.Name([])).public_key(own.public_key()).serial_number(2)
    leaf = leaf.add_extension(x509.SubjectAlternativeName([x509.DNSName("reviews")]), critical=True)
    private = own.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "ca.pem").write_bytes(root.sign(key, hashes.SHA256()).public_bytes(PEM))
    (folder / "cert.pem").write_bytes(leaf.sign(key, hashes.SHA256()).public_bytes(PEM))
    (folder / "key.pem").write_bytes(private)
    empty = x509.CertificateRevocationListBuilder(name, now - HOUR, now + HOUR)
    revoked = x509.RevokedCertificateBuilder().serial_number(2).revocation_date(now - HOUR).build()
    (folder / "empty.crl").write_bytes(empty.sign(key, hashes.SHA256()).public_bytes(PEM))
    listing = empty.add_revoked_certificate(revoked)
    (folder / "revoked.crl").write_bytes(listing.sign(key, hashes.SHA256()).public_bytes(PEM))


@contextlib.asynccontextmanager
async def tls_server(folder: Path) -> AsyncIterator[int]:
    """A server with the certificate; gives its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context) as running:
        yield running.sockets[0].getsockname()[1]


@contextlib.asynccontextmanager
async def envoy(folder: Path, port: int, upstream: int, crl: str) -> AsyncIterator[None]:
    """Envoy, and the agent's SDS that it asks for the roots."""
    socket = str(folder / "sds")
    sds = server.SdsServer(secrets.Secrets(), socket)
    await sds.start()
    inputs = Inputs(kind="sidecar", config=DEFAULTS, sds_socket=socket)
    own = next(one for one in clusters.base(inputs) if one["name"] == names.CLUSTER_SDS)
    root = str(folder / "ca.pem")
    target = made.cluster(
        discovery=Discovery.STATIC,
        query=None,
        endpoints=(replace(made.endpoint("127.0.0.1"), port=upstream),),
        tls=UpstreamTls(mode=TlsMode.SIMPLE, ca_certificates=root, ca_crl=str(folder / crl) if crl else ""),
    )
    rule = made.route(destinations=made.to(made.destination()))
    config = bootstrap_pb2.Bootstrap()
    config.node.id, config.node.cluster = "sidecar~127.0.0.1~a.default~default.svc.cluster.local", "a"
    served = outbound(port, made.table(made.virtual_host(routes=[rule])))
    config.static_resources.listeners.append(listener.message(served, made.QUIET))
    config.static_resources.clusters.append(cluster.message(target, made.QUIET))
    json_format.ParseDict(own, config.static_resources.clusters.add())
    (folder / "bootstrap.pb").write_bytes(config.SerializeToString())
    process = await asyncio.create_subprocess_exec(
        envoys.binary(),
        *("-c", str(folder / "bootstrap.pb"), "--disable-hot-restart", "--concurrency", "1", "--log-level", "error"),
    )
    try:
        yield
    finally:
        process.terminate()
        await process.wait()
        await sds.stop()


@pytest.mark.parametrize(("crl", "status"), [("", 200), ("empty.crl", 200), ("revoked.crl", 503)])
async def test_a_server_on_the_list_of_revoked_certificates_is_refused(crl: str, status: int, tmp_path: Path) -> None:
    write(tmp_path)
    (port,) = free_ports(1)
    async with tls_server(tmp_path) as upstream, envoy(tmp_path, port, upstream, crl):
        url = f"http://127.0.0.1:{port}/"
        await until(answers(status, url), f"status {status}")
        assert {await get(url) for _ in range(5)} == {status}
