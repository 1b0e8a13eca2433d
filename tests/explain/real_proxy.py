"""A real Envoy with all listeners of one recorded proxy, and a client for every kind of call that the judge thinks of.

Where a connection was going, and which certificates count, is the test's as in ``real``; calls are told apart by the
addresses of this machine that they come from. Envoy's log is read once it has ended, so that nothing is missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.exceptions
from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.extensions.access_loggers.file.v3 import file_pb2
from envoy.extensions.filters.http.jwt_authn.v3 import config_pb2 as jwt_pb2
from envoy.extensions.filters.listener.proxy_protocol.v3 import proxy_protocol_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2

from e2e.harness.ports import free_ports
from istiod.envoy import wellknown
from istiod.explain.call import Call, Direction, Tls
from istiod.explain.held import Held
from tests import envoys
from tests.envoy.guarded import Certificates
from tests.explain import real
from tests.waiting import until

RAW = b"\x01\x02 neither HTTP nor TLS\r\n\r\n"
_CAPTURES = {15001: Direction.OUTBOUND, 15006: Direction.INBOUND}
_LOGGED = {**real.LOGGED, "client": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%"}
_SECONDS = 40
_AT_ONCE = 24


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What became of a call: status 0 without an HTTP response, ``echo`` what the server got of a request."""

    status: int
    headers: Mapping[str, str]
    echo: Mapping[str, Any]
    lines: tuple[Mapping[str, Any], ...]


def with_keys(held: Held, keys: str) -> Held:
    """The same with the test's keys in place of every issuer's, so that it can make tokens."""
    listeners = []
    for one in held.listeners:
        made = listener_pb2.Listener()
        made.CopyFrom(one)
        for chain in _chains(made):
            for each in chain.filters:
                manager = hcm_pb2.HttpConnectionManager()
                if each.typed_config.Unpack(manager):
                    _keyed(manager, keys)
                    each.typed_config.CopyFrom(wellknown.packed(manager))
        listeners.append(made)
    return replace(held, listeners=tuple(listeners))


def _keyed(manager: hcm_pb2.HttpConnectionManager, keys: str) -> None:
    for each in manager.http_filters:
        config = jwt_pb2.JwtAuthentication()
        if each.typed_config.Unpack(config):
            for provider in config.providers.values():
                provider.ClearField("remote_jwks")
                provider.local_jwks.inline_string = keys
            each.typed_config.CopyFrom(wellknown.packed(config))


async def ask(held: Held, calls: list[Call], folder: Path, certificates: Certificates) -> list[Seen]:
    """What a real Envoy of this configuration does with calls, in their order; each has a ``source`` of its own.

    Raises:
        AssertionError: it does not start.
    """
    ports = _ports(held)
    log, config = folder / "access.log", folder / "bootstrap.pb"
    async with _server() as echo:
        config.write_bytes(_bootstrap(held, ports, echo, log, certificates).SerializeToString())
        async with _envoy(config, folder, list(ports.values())):
            gate = asyncio.Semaphore(_AT_ONCE)
            answers = await asyncio.gather(*(_asked(call, ports, certificates, gate) for call in calls))
    lines = [json.loads(one) for one in log.read_text().splitlines()] if log.exists() else []
    by_client: dict[str, list[Mapping[str, Any]]] = {}
    for one in lines:
        by_client.setdefault(one["client"], []).append(one)
    return [_seen(answer, by_client.get(call.source, [])) for call, answer in zip(calls, answers, strict=True)]


@contextlib.asynccontextmanager
async def _envoy(config: Path, folder: Path, ports: list[int]) -> AsyncIterator[None]:
    output = folder / "envoy.log"
    with output.open("wb") as written:
        process = await asyncio.create_subprocess_exec(
            envoys.binary(),
            *("-c", str(config), "--use-dynamic-base-id", "--concurrency", "1", "-l", "error"),
            *("--file-flush-interval-msec", "200"),
            stdout=written,
            stderr=written,
        )
        try:
            up = dict(zip(map(str, ports), ports, strict=True))
            await until(lambda: process.returncode is not None or real.up(up), "Envoy's listeners", 60)
            assert process.returncode is None, output.read_text()
            yield
            assert process.returncode is None, output.read_text()
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


@dataclass(frozen=True, kw_only=True)
class _Answered:
    status: int = 0
    headers: Mapping[str, str]
    body: bytes = b""


def _seen(answer: _Answered, lines: list[Mapping[str, Any]]) -> Seen:
    echo = json.loads(answer.body) if answer.headers.get("x-echo") and answer.body else {}
    return Seen(status=answer.status, headers=answer.headers, echo=echo, lines=tuple(lines))


async def _asked(
    call: Call, ports: Mapping[Any, int], certificates: Certificates, gate: asyncio.Semaphore
) -> _Answered:
    key = call.port if call.direction is Direction.GATEWAY else call.direction
    if key not in ports:
        return _Answered(headers={})
    async with gate:
        reader, writer = await asyncio.open_connection("127.0.0.1", ports[key], local_addr=(call.source, 0))
        try:
            async with asyncio.timeout(_SECONDS):
                writer.write(f"PROXY TCP4 {call.source} {call.destination} {call.source_port} {call.port}\r\n".encode())
                if call.tls is not Tls.NONE:
                    await writer.start_tls(_client(call, certificates), server_hostname=call.sni or None)
                status, headers, body = await _exchange(reader, writer, call)
                return _Answered(status=status, headers=headers, body=body)
        except (TimeoutError, OSError, asyncio.IncompleteReadError, ssl.SSLError, h2.exceptions.ProtocolError):
            return _Answered(headers={})
        finally:
            writer.transport.abort()


def _client(call: Call, certificates: Certificates) -> ssl.SSLContext:
    if call.tls is Tls.MUTUAL:
        found = certificates.client(call.principal.removeprefix("spiffe://"))
    else:
        found = ssl.create_default_context(cafile=str(certificates.root))
        found.check_hostname = False
    if call.alpn:
        found.set_alpn_protocols(list(call.alpn))
    return found


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, call: Call
) -> tuple[int, dict[str, str], bytes]:
    if not call.http:
        writer.write(RAW)
        await writer.drain()
        await reader.read(64)
        return 0, {}, b""
    if call.http2:
        return await _over_http2(reader, writer, call)
    lines = [f"{call.method} {call.path} HTTP/1.1", f"host: {call.authority}"]
    lines += [f"{key}: {value}" for key, value in call.headers.items()]
    writer.write("\r\n".join((*lines, "connection: close", "", "")).encode())
    await writer.drain()
    return await real.answer(reader, method=call.method)


async def _over_http2(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, call: Call
) -> tuple[int, dict[str, str], bytes]:
    connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    connection.initiate_connection()
    scheme = "http" if call.tls is Tls.NONE else "https"
    pseudo = [(":method", call.method), (":scheme", scheme), (":authority", call.authority), (":path", call.path)]
    connection.send_headers(1, [*pseudo, *call.headers.items()], end_stream=True)
    writer.write(connection.data_to_send())
    headers: dict[str, str] = {}
    body = b""
    while data := await reader.read(65_536):
        for event in connection.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived):
                headers = {str(name): str(value) for name, value in event.headers or ()}
            elif isinstance(event, h2.events.DataReceived):
                body += event.data or b""
            elif isinstance(event, h2.events.StreamReset):
                return 0, {}, b""
            if isinstance(event, h2.events.StreamEnded):
                return int(headers.pop(":status")), headers, body
        writer.write(connection.data_to_send())
    return 0, {}, b""


@contextlib.asynccontextmanager
async def _server() -> AsyncIterator[int]:
    """Behind every cluster: says what it got of HTTP, takes a few bytes of anything else and hangs up."""
    server = await asyncio.start_server(_serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError, OSError):
        first = await reader.readexactly(3)
        if first.isalpha() and first != b"PRI":
            await real.serve(reader, writer, first)
    writer.close()


def _ports(held: Held) -> dict[Any, int]:
    """Where Envoy takes what is captured, by direction, or what comes to a gateway, by port."""
    wanted: list[Any] = [key for one in held.listeners if (key := _key(one, held)) is not None]
    return dict(zip(wanted, free_ports(len(wanted)), strict=True))


def _key(one: listener_pb2.Listener, held: Held) -> Direction | int | None:
    port = one.address.socket_address.port_value
    if port in _CAPTURES:
        return _CAPTURES[port]
    captures = any(each.address.socket_address.port_value in _CAPTURES for each in held.listeners)
    return None if captures else int(port)


def _bootstrap(
    held: Held, ports: Mapping[Any, int], echo: int, log: Path, certificates: Certificates
) -> bootstrap_pb2.Bootstrap:
    found = bootstrap_pb2.Bootstrap()
    found.node.id, found.node.cluster = "sidecar~127.0.0.1~app.demo~demo.svc.cluster.local", "app.demo"
    runtime = found.layered_runtime.layers.add(name="static").static_layer
    runtime["re2.max_program_size.error_level"] = 32768  # as every proxy has it (agent.bootstrap)
    for one in held.listeners:
        made = found.static_resources.listeners.add()
        made.CopyFrom(one)
        _placed(made, ports.get(_key(one, held)))
        for chain in _chains(made):
            _logged(chain, log)
            real.made_chain(chain, held, log, certificates, _LOGGED)
    for cluster in held.clusters.values():
        found.static_resources.clusters.append(real.made_cluster(held, cluster, echo))
    return found


def _placed(made: listener_pb2.Listener, port: int | None) -> None:
    """Listen where the test connects; without a port, be there for what is handed on only."""
    made.ClearField("access_log")
    kept = [each for each in made.listener_filters if not each.name.endswith("original_dst")]
    if port is None:
        made.bind_to_port.value = False
    else:
        made.address.socket_address.address, made.address.socket_address.port_value = "127.0.0.1", port
        made.ClearField("additional_addresses")
        made.ClearField("bind_to_port")
        packed = wellknown.packed(proxy_protocol_pb2.ProxyProtocol())
        kept.insert(0, listener_components_pb2.ListenerFilter(name="proxy_protocol", typed_config=packed))
    del made.listener_filters[:]
    made.listener_filters.extend(kept)


def _logged(chain: listener_components_pb2.FilterChain, log: Path) -> None:
    for each in chain.filters:
        proxy = tcp_proxy_pb2.TcpProxy()
        if each.typed_config.Unpack(proxy):
            proxy.ClearField("access_log")
            proxy.ClearField("access_log_options")
            access = file_pb2.FileAccessLog(path=str(log))
            access.log_format.json_format.update(_LOGGED)
            proxy.access_log.add(name="file", typed_config=wellknown.packed(access))
            each.typed_config.CopyFrom(wellknown.packed(proxy))


def _chains(one: listener_pb2.Listener) -> Iterator[listener_components_pb2.FilterChain]:
    yield from one.filter_chains
    if one.HasField("default_filter_chain"):
        yield one.default_filter_chain
