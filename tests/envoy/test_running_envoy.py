"""What a running Envoy does with compiled listeners: the rule in its log, the ALPN it offers upstream."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from envoy.config.bootstrap.v3 import bootstrap_pb2

from e2e.harness.ports import free_ports
from istiod.envoy import cluster, listener
from istiod.mesh.policy import TlsMode
from istiod.mesh.route import DirectResponse, RouteTable
from istiod.mesh.scope import Chain, Cluster, Direction, Discovery, Http, Listener, UpstreamTls
from istiod.mesh.settings import AccessLogEncoding, MeshSettings
from tests import envoys
from tests.envoy import made
from tests.waiting import until

pytestmark = pytest.mark.envoy


def outbound(port: int, table: RouteTable) -> Listener:
    chain = Chain(name="http", http=Http(stat_prefix="x", inline=table))
    return Listener(name="l", address="127.0.0.1", port=port, direction=Direction.OUTBOUND, chains=(chain,))


@contextlib.asynccontextmanager
async def running(folder: Path, settings: MeshSettings, served: Listener, *clusters: Cluster) -> AsyncIterator[None]:
    """Envoy with this listener and these clusters."""
    config = bootstrap_pb2.Bootstrap()
    config.node.id, config.node.cluster = "sidecar~127.0.0.1~a.default~default.svc.cluster.local", "a"
    config.static_resources.listeners.append(envoys.served(listener.message(served, settings)))
    config.static_resources.clusters.extend(cluster.message(each, settings) for each in clusters)
    path = folder / "bootstrap.pb"
    path.write_bytes(config.SerializeToString())
    process = await asyncio.create_subprocess_exec(
        envoys.binary(),
        *("-c", str(path), "--disable-hot-restart", "--concurrency", "1", "--log-level", "error"),
        *("--file-flush-interval-msec", "20"),
    )
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


async def get(url: str, host: str = "reviews") -> int:
    """Status of a GET, 0 while nobody listens."""
    try:
        async with aiohttp.ClientSession() as session, session.get(url, headers={"host": host}) as response:
            return response.status
    except aiohttp.ClientConnectionError:
        return 0


def answers(status: int, url: str) -> Callable[[], asyncio.Future[bool]]:
    async def asked() -> bool:
        return await get(url) == status

    return lambda: asyncio.ensure_future(asked())


@pytest.mark.parametrize("encoding", list(AccessLogEncoding))
async def test_the_access_log_ends_with_the_rule_that_routed_the_request(
    encoding: AccessLogEncoding, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    log = tmp_path / "log"
    settings = MeshSettings(access_log_file=str(log), access_log_encoding=encoding)
    rule = made.route(origin=made.RULE, direct_response=DirectResponse(status=418, body=b"tea"))
    async with running(tmp_path, settings, outbound(port, made.table(made.virtual_host(routes=[rule])))):
        await until(answers(418, f"http://127.0.0.1:{port}/"), "an answer")
        await until(lambda: log.exists() and "\n" in log.read_text(), "a line in the log")
    line = log.read_text().splitlines()[0]
    path, field = "/apis/networking.istio.io/v1/namespaces/default/virtual-service/reviews", "spec.http[0]"
    if encoding is AccessLogEncoding.TEXT:
        assert line.endswith(f" default {path} {field}")
    else:
        assert made.picked(json.loads(line), "rule", "rule_field") == {"rule": path, "rule_field": field}


def certificate(folder: Path) -> tuple[Path, Path]:
    """A throwaway certificate and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = dt.datetime.now(dt.UTC)
    made_out = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made_out.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "cert.pem", folder / "key.pem"


@contextlib.asynccontextmanager
async def tls_server(folder: Path) -> AsyncIterator[tuple[int, list[str | None]]]:
    """A server that speaks ``istio-http/1.1`` to who offers it; gives its port and what each handshake settled on."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate(folder))
    context.set_alpn_protocols(["istio-http/1.1"])
    settled: list[str | None] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        settled.append(writer.get_extra_info("ssl_object").selected_alpn_protocol())
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1], settled


@pytest.mark.parametrize(("mesh_tls", "expected"), [(True, "istio-http/1.1"), (False, None)])
async def test_only_routes_to_the_mesh_offer_the_clients_protocol_in_the_handshake(
    *, mesh_tls: bool, expected: str | None, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    async with tls_server(tmp_path) as (upstream, settled):
        target = made.cluster(
            discovery=Discovery.STATIC,
            query=None,
            endpoints=(replace(made.endpoint("127.0.0.1"), port=upstream),),
            downstream_protocol=True,
            tls=UpstreamTls(mode=TlsMode.SIMPLE, insecure_skip_verify=True),
        )
        rule = made.route(destinations=made.to(made.destination(mesh_tls=mesh_tls)))
        served = outbound(port, made.table(made.virtual_host(routes=[rule])))
        async with running(tmp_path, made.QUIET, served, target):
            await until(answers(200, f"http://127.0.0.1:{port}/"), "an answer through TLS")
    assert set(settled) == {expected}
