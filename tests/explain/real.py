"""A real Envoy that is asked what explain is asked: three proxies' listeners in one, one server behind every cluster.

Where a connection was going before it was captured, Envoy takes from a PROXY protocol header in place of the kernel:
so no network namespace is needed. Everything that decides is as istiod compiled it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.extensions.access_loggers.file.v3 import file_pb2
from envoy.extensions.filters.listener.proxy_protocol.v3 import proxy_protocol_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2

from e2e.harness.ports import free_ports
from istiod.envoy import wellknown
from istiod.explain import upstreams
from istiod.explain.call import Call
from istiod.explain.held import Held
from tests import envoys
from tests.envoy.guarded import Certificates
from tests.waiting import until

_HCM = "envoy.filters.network.http_connection_manager"
_WANTED: Mapping[str, Callable[[listener_pb2.Listener], bool]] = {
    "outbound": lambda one: one.address.socket_address.port_value != 15006,
    "inbound": lambda one: one.address.socket_address.port_value == 15006,
    "gateway": lambda one: one.address.socket_address.port_value == 8080,
}
_ID = "x-test-id"
LOGGED = {
    "id": "%REQ(X-TEST-ID)%",
    "chain": "%FILTER_CHAIN_NAME%",
    "route": "%ROUTE_NAME%",
    "rule": "%METADATA(ROUTE:istio:config)% %METADATA(ROUTE:istio:field)%",
    "cluster": "%UPSTREAM_CLUSTER_RAW%",
    "code": "%RESPONSE_CODE%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "host": "%UPSTREAM_HOST%",
    "sent": "%UPSTREAM_WIRE_BYTES_SENT%",
}


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What became of a request. ``status`` 0: the connection was closed; ``echo`` is what the server got."""

    status: int
    headers: Mapping[str, str]
    echo: Mapping[str, Any]
    log: Mapping[str, Any]


class Real:
    """The Envoy, and where its three proxies listen."""

    def __init__(self, ports: Mapping[str, int], log: Path, certificates: Certificates) -> None:
        self.ports = ports
        self._log = log
        self._certificates = certificates
        self._ids = itertools.count(1)

    async def ask(self, way: str, call: Call, account: str) -> Seen:
        """Send a call and see what comes of it."""
        name = str(next(self._ids))
        try:
            status, headers, body = await asyncio.wait_for(self._exchange(way, call, account, name), 20)
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            return Seen(status=0, headers={}, echo={}, log={})
        echo = json.loads(body) if headers.get("x-echo") else {}
        return Seen(status=status, headers=headers, echo=echo, log=await self._logged(name))

    async def _exchange(self, way: str, call: Call, account: str, name: str) -> tuple[int, dict[str, str], bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.ports[way])
        try:
            head = f"PROXY TCP4 {call.source} {call.destination} {call.source_port} {call.port}\r\n"
            writer.write(head.encode())
            if call.principal:
                await writer.start_tls(self._client(account, call.alpn), server_hostname=call.sni or "x")
            lines = [f"{call.method} {call.path} HTTP/1.1", f"host: {call.authority}", f"{_ID}: {name}"]
            lines += [f"{key}: {value}" for key, value in call.headers.items()]
            writer.write("\r\n".join((*lines, "connection: close", "", "")).encode())
            await writer.drain()
            return await answer(reader)
        finally:
            writer.close()

    def _client(self, account: str, alpn: tuple[str, ...]) -> ssl.SSLContext:
        namespace, _, name = account.partition("/")
        found = self._certificates.client(f"cluster.local/ns/{namespace}/sa/{name}")
        found.set_alpn_protocols(list(alpn))
        return found

    async def _logged(self, name: str) -> Mapping[str, Any]:
        found: list[Mapping[str, Any]] = []

        def written() -> bool:
            lines = self._log.read_text().splitlines() if self._log.exists() else []
            found.extend(one for one in map(_line, lines) if one.get("id") == name)
            return bool(found)

        await until(written, f"the access log of request {name}")
        return found[0]


def _line(text: str) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = json.loads(text)
    except ValueError:  # half a line
        return {}
    return found


async def answer(reader: asyncio.StreamReader, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of an HTTP/1.1 response."""
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
    body = b""
    if headers.get("transfer-encoding") == "chunked":
        while size := int(await reader.readline(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
    elif (length := int(headers.get("content-length", "0"))) and method != "HEAD":
        body = await reader.readexactly(length)
    return int(first.split()[1]), headers, body


@contextlib.asynccontextmanager
async def running(proxies: Mapping[str, Held], folder: Path, certificates: Certificates) -> AsyncIterator[Real]:
    """An Envoy with the listeners of an outbound, an inbound and a gateway proxy."""
    ports = dict(zip(("outbound", "inbound", "gateway"), free_ports(3), strict=True))
    log, admin, config = folder / "access.log", folder / "admin.txt", folder / "bootstrap.pb"
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        echo = server.sockets[0].getsockname()[1]
        config.write_bytes(_bootstrap(proxies, ports, echo, log, certificates).SerializeToString())
        with (folder / "envoy.log").open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                envoys.binary(),
                *("-c", str(config), "--admin-address-path", str(admin), "--use-dynamic-base-id", "--concurrency", "1"),
                *("--file-flush-interval-msec", "20", "-l", "error"),
                stdout=output,
                stderr=output,
            )
            try:
                await until(lambda: process.returncode is not None or up(ports), "Envoy's listeners")
                assert process.returncode is None, (folder / "envoy.log").read_text()
                yield Real(ports, log, certificates)
            finally:
                if process.returncode is None:
                    process.kill()
                await process.wait()


def up(ports: Mapping[str, int]) -> bool:
    """Whether all ports take connections."""
    for port in ports.values():
        with socket.socket() as each:
            if each.connect_ex(("127.0.0.1", port)):
                return False
    return True


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, read: bytes = b"") -> None:
    """Answer requests with what they are; ``read`` are bytes of the first that somebody has read."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = (read + await reader.readuntil(b"\r\n\r\n")).decode()
            read = b""
            first, *lines = head.split("\r\n")
            headers = dict(line.partition(": ")[::2] for line in lines if line)
            body = json.dumps({"path": first.split()[1], "headers": headers}).encode()
            said = f"HTTP/1.1 200 OK\r\nx-echo: 1\r\ncontent-length: {len(body)}\r\n\r\n".encode()
            writer.write(said if first.startswith("HEAD") else said + body)
    writer.close()


def _bootstrap(
    proxies: Mapping[str, Held], ports: Mapping[str, int], echo: int, log: Path, certificates: Certificates
) -> bootstrap_pb2.Bootstrap:
    found = bootstrap_pb2.Bootstrap()
    found.admin.address.socket_address.address = "127.0.0.1"
    found.admin.address.socket_address.port_value = 0
    found.node.id, found.node.cluster = "sidecar~127.0.0.1~app.demo~demo.svc.cluster.local", "app.demo"
    runtime = found.layered_runtime.layers.add(name="static").static_layer
    runtime["re2.max_program_size.error_level"] = 32768  # as every proxy has it (agent.bootstrap)
    seen: set[str] = set()
    for way, held in proxies.items():
        for one in filter(_WANTED[way], held.listeners):
            found.static_resources.listeners.append(_listener(one, way, held, ports, log, certificates))
        for cluster in held.clusters.values():
            if cluster.name not in seen:
                seen.add(cluster.name)
                found.static_resources.clusters.append(made_cluster(held, cluster, echo))
    return found


def made_cluster(held: Held, cluster: cluster_pb2.Cluster, echo: int) -> cluster_pb2.Cluster:
    """One of the same name with the server behind it, if it has any endpoint."""
    found = cluster_pb2.Cluster(name=cluster.name, type=cluster_pb2.Cluster.STATIC)
    found.load_assignment.cluster_name = cluster.name
    call = Call(destination="10.9.9.9", port=80)
    if upstreams.hosts(held, cluster, call) != ():
        place = found.load_assignment.endpoints.add().lb_endpoints.add().endpoint.address.socket_address
        place.address, place.port_value = "127.0.0.1", echo
    return found


def _listener(
    one: listener_pb2.Listener,
    way: str,
    held: Held,
    ports: Mapping[str, int],
    log: Path,
    certificates: Certificates,
) -> listener_pb2.Listener:
    made = listener_pb2.Listener()
    made.CopyFrom(one)
    made.name = f"{way} {one.name}"
    made.ClearField("access_log")
    kept = [each for each in made.listener_filters if not each.name.endswith("original_dst")]
    captures = one.address.socket_address.port_value in (15001, 15006)
    if captures or way == "gateway":
        made.address.socket_address.address = "127.0.0.1"
        made.address.socket_address.port_value = ports[way]
        made.ClearField("additional_addresses")
        made.ClearField("bind_to_port")
        packed = wellknown.packed(proxy_protocol_pb2.ProxyProtocol())
        kept.insert(0, listener_components_pb2.ListenerFilter(name="proxy_protocol", typed_config=packed))
    del made.listener_filters[:]
    made.listener_filters.extend(kept)
    chains: Iterable[listener_components_pb2.FilterChain] = made.filter_chains
    if made.HasField("default_filter_chain"):
        chains = (*chains, made.default_filter_chain)
    for chain in chains:
        made_chain(chain, held, log, certificates)
    return made


def made_chain(
    chain: listener_components_pb2.FilterChain,
    held: Held,
    log: Path,
    certificates: Certificates,
    logged: Mapping[str, str] = LOGGED,
) -> None:
    """Give a chain the test's log and certificates, and its route table."""
    for each in chain.filters:
        manager = hcm_pb2.HttpConnectionManager()
        if not each.typed_config.Unpack(manager):
            continue
        if manager.HasField("rds"):
            manager.route_config.CopyFrom(held.routes[manager.rds.route_config_name])
        manager.ClearField("access_log")
        access = file_pb2.FileAccessLog(path=str(log))
        access.log_format.json_format.update(logged)
        manager.access_log.add(name="file", typed_config=wellknown.packed(access))
        each.typed_config.CopyFrom(wellknown.packed(manager))
    context = tls_pb2.DownstreamTlsContext()
    if chain.transport_socket.typed_config.Unpack(context):
        _own_certificate(context, certificates)
        chain.transport_socket.typed_config.CopyFrom(wellknown.packed(context))


def _own_certificate(context: tls_pb2.DownstreamTlsContext, certificates: Certificates) -> None:
    """The files of the test in place of the agent's secrets; whom the chain accepts stays."""
    common = context.common_tls_context
    names = list(common.combined_validation_context.default_validation_context.match_typed_subject_alt_names)
    common.ClearField("tls_certificate_sds_secret_configs")
    common.ClearField("combined_validation_context")
    own = common.tls_certificates.add()
    chain, key = certificates.of("cluster.local/ns/default/sa/web")
    own.certificate_chain.filename, own.private_key.filename = str(chain), str(key)
    common.validation_context.trusted_ca.filename = str(certificates.root)
    common.validation_context.match_typed_subject_alt_names.extend(names)
