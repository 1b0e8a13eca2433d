"""A real Envoy with one guarded port for requests and one for connections per set of policies, and clients for it.

The filters are the product's; certificates, ports and the answers behind them are the test's. Plaintext and mutual TLS
come to the same port.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import itertools
import os
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.extensions.filters.listener.tls_inspector.v3 import tls_inspector_pb2
from envoy.extensions.filters.network.echo.v3 import echo_pb2
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2

from istiod.ca.authority import Authority, self_signed
from istiod.envoy import hcm, wellknown
from istiod.envoy.filters import authorization
from istiod.mesh.authorization import Authorization
from istiod.mesh.route import ANY, DirectResponse, Route, RouteTable, VirtualHost
from istiod.mesh.scope import Direction, Http
from istiod.mesh.settings import MeshSettings
from tests import envoys
from tests.envoy.policy_oracle import Request
from tests.waiting import until
from wire.spiffe import Identity

_PID = os.getpid()
ADDRESS = f"127.{100 + (_PID >> 16) % 100}.{_PID >> 8 & 255}.{_PID & 255}"
"""An address of this process's own, so that its ports are nobody else's."""
_PORTS = itertools.count(11_000)


def ports(count: int) -> list[int]:
    """Ports that nothing in this process has had."""
    return list(itertools.islice(_PORTS, count))


OPEN = RouteTable(
    name="open",
    virtual_hosts=(
        VirtualHost(
            name="all",
            domains=("*",),
            routes=(Route(name="all", match=ANY, origin=None, direct_response=DirectResponse(status=200)),),
        ),
    ),
)


@dataclass(frozen=True, kw_only=True)
class Guard:
    """What stands before a port."""

    port: int
    said: Authorization | None
    tcp: bool = False


class Certificates:
    """One authority, and a key with certificates of several identities."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._now = dt.datetime.now(dt.UTC)
        self._authority = Authority(self_signed("cluster.local", self._now))
        self.root = folder / "root.pem"
        self.root.write_text(self._authority.roots)

    def of(self, identity: str) -> tuple[Path, Path]:
        """Certificate and key of ``DOMAIN/ns/NAMESPACE/sa/ACCOUNT``."""
        chain, secret = (self._folder / f"{identity.replace('/', '_')}.{end}" for end in ("pem", "key"))
        if not chain.exists():
            key = ec.generate_private_key(ec.SECP256R1())
            csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
            domain, _, namespace, _, account = identity.split("/")
            pem = csr.public_bytes(serialization.Encoding.PEM).decode()
            who = Identity(domain, namespace, account)
            chain.write_text("".join(self._authority.sign(pem, who, dt.timedelta(hours=1), self._now)))
            form = serialization.PrivateFormat.PKCS8
            secret.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
        return chain, secret

    def client(self, identity: str) -> ssl.SSLContext:
        """What a client of this identity speaks."""
        found = ssl.create_default_context(cafile=str(self.root))
        found.check_hostname = False
        found.load_cert_chain(*map(str, self.of(identity)))
        return found


Upstreams = Mapping[str, tuple[int, bool]]
"""Clusters by name: a port on localhost, and whether it speaks HTTP/2."""


def bootstrap(
    guards: Iterable[Guard], certificates: Certificates, settings: MeshSettings, upstreams: Upstreams
) -> bytes:
    found = bootstrap_pb2.Bootstrap()
    runtime = found.layered_runtime.layers.add(name="static").static_layer
    runtime["re2.max_program_size.error_level"] = 32768  # as every proxy has it (agent.bootstrap)
    found.admin.address.pipe.path = str(_admin(certificates))
    chain, key = certificates.of("cluster.local/ns/foo/sa/web")
    context = tls_pb2.DownstreamTlsContext(require_client_certificate=wellknown.boolean(value=True))
    own = context.common_tls_context.tls_certificates.add()
    own.certificate_chain.filename, own.private_key.filename = str(chain), str(key)
    context.common_tls_context.validation_context.trusted_ca.filename = str(certificates.root)
    tls = listener_components_pb2.FilterChain().transport_socket
    tls.name = "envoy.transport_sockets.tls"
    tls.typed_config.CopyFrom(wellknown.packed(context))
    for guard in guards:
        found.static_resources.listeners.append(envoys.served(_listener(guard, tls, settings)))
    for name, (port, http2) in upstreams.items():
        found.static_resources.clusters.append(_cluster(name, port, http2=http2))
    return found.SerializeToString()


def _cluster(name: str, port: int, *, http2: bool) -> cluster_pb2.Cluster:
    found = cluster_pb2.Cluster(name=name, type=cluster_pb2.Cluster.STATIC)
    found.load_assignment.cluster_name = name
    place = found.load_assignment.endpoints.add().lb_endpoints.add().endpoint.address.socket_address
    place.address, place.port_value = "127.0.0.1", port
    if http2:
        options = http_protocol_options_pb2.HttpProtocolOptions()
        options.explicit_http_config.http2_protocol_options.SetInParent()
        found.typed_extension_protocol_options["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"].Pack(options)
    return found


def _listener(guard: Guard, tls: object, settings: MeshSettings) -> listener_pb2.Listener:
    found = listener_pb2.Listener(name=f"p{guard.port}")
    found.address.socket_address.address, found.address.socket_address.port_value = ADDRESS, guard.port
    inspector = found.listener_filters.add(name="envoy.filters.listener.tls_inspector")
    inspector.typed_config.CopyFrom(wellknown.packed(tls_inspector_pb2.TlsInspector()))
    for transport in ("tls", "raw_buffer"):
        chain = found.filter_chains.add(name=transport)
        chain.filter_chain_match.transport_protocol = transport
        if transport == "tls":
            chain.transport_socket.CopyFrom(tls)  # type: ignore[arg-type]  # a TransportSocket
        if guard.tcp:
            chain.filters.extend(authorization.network(guard.said))
            chain.filters.add(name="envoy.filters.network.echo").typed_config.CopyFrom(
                wellknown.packed(echo_pb2.Echo())
            )
        else:
            http = Http(stat_prefix="in", inline=OPEN, authorization=guard.said, mesh_tls=transport == "tls")
            chain.filters.append(hcm.network_filter(http, Direction.INBOUND, settings))
    return found


@contextlib.asynccontextmanager
async def running(
    guards: list[Guard], certificates: Certificates, settings: MeshSettings, upstreams: Upstreams | None = None
) -> AsyncIterator[None]:
    """An Envoy with these guarded ports, as long as the context lasts."""
    folder = certificates.root.parent
    config = folder / "bootstrap.pb"
    config.write_bytes(bootstrap(guards, certificates, settings, upstreams or {}))
    command = (
        envoys.binary(),
        "-c",
        str(config),
        "--concurrency",
        "1",
        "--log-level",
        "error",
        "--use-dynamic-base-id",
    )
    with (folder / "envoy.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)
    try:

        async def answers() -> bool:
            assert process.returncode is None, (folder / "envoy.log").read_text()
            try:
                _, writer = await asyncio.open_connection(ADDRESS, guards[-1].port)
            except OSError:
                return False
            writer.close()
            return True

        await until(answers, "Envoy listens", 60)
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def admin(certificates: Certificates, path: str) -> str:
    """What the running Envoy's admin interface says."""
    connector = aiohttp.UnixConnector(str(_admin(certificates)))
    async with aiohttp.ClientSession(connector=connector) as session, session.get(f"http://envoy{path}") as answer:
        return await answer.text()


async def statistics(certificates: Certificates, part: str) -> dict[str, int]:
    """The counters of the running Envoy whose names hold a text."""
    said = await admin(certificates, "/stats")
    lines = (line.rpartition(": ") for line in said.splitlines() if part in line)
    return {name: int(count) for name, _, count in lines}


def _admin(certificates: Certificates) -> Path:
    return certificates.root.parent / "admin.sock"


class Client:
    """Connections, one for each guarded port, identity and source address."""

    def __init__(self, certificates: Certificates) -> None:
        self._certificates = certificates
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._open: dict[tuple[object, ...], tuple[asyncio.StreamReader, asyncio.StreamWriter]] = {}

    async def ask(self, request: Request) -> int:
        """The status of a request; of a connection 200 where it echoes, 403 where it is closed."""
        async with asyncio.timeout(20):
            return await (self._connection(request) if request.tcp else self._request(request))

    async def _connection(self, request: Request) -> int:
        reader, writer = await self._connect(request)
        writer.write(b"hello")
        try:
            return 200 if await reader.read(5) == b"hello" else 403
        except ConnectionError:
            return 403
        finally:
            writer.close()

    async def _request(self, request: Request) -> int:
        place = (request.port, request.identity, request.sni, request.source)
        if place not in self._open:
            self._open[place] = await self._connect(request)
        reader, writer = self._open[place]
        headers = {
            "host": request.host,
            **({"x-forwarded-for": request.remote} if request.remote != request.source else {}),
        }
        lines = [f"{request.method} {request.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        lines += [f"{name}: {value}" for name, value in request.headers]
        writer.write("\r\n".join((*lines, "content-length: 0", "", "")).encode(errors="surrogateescape"))
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length: ")[2].partition("\r\n")[0] or 0)
        await reader.readexactly(length)
        return int(head.split(" ", 2)[1])

    async def _connect(self, request: Request) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        context = None
        if request.identity:
            if request.identity not in self._contexts:
                self._contexts[request.identity] = self._certificates.client(request.identity)
            context = self._contexts[request.identity]
        name = (request.sni or None) if context else None
        return await asyncio.open_connection(
            ADDRESS, request.port, ssl=context, server_hostname=name, local_addr=(request.source, 0)
        )

    async def close(self) -> None:
        """Close what is open."""
        for _, writer in self._open.values():
            writer.close()
