"""A crowd of proxies in one process: the least of HTTP/2 and delta xDS that an Envoy says, over TLS, a thousand times.

Each has the certificate of its pod, takes its first configuration in Envoy's order, ACKs everything, and comes back
with what it holds. It gives up a connection that is not secured in time and tries again as the agent's bootstrap says.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import hpack
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import json_format

from istiod.grpcserver import frames
from tests.grpcserver.wire import HEAD, message, parse
from wire import names

METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
ORDER = (names.CLUSTER, names.ENDPOINT, names.LISTENER, names.ROUTE)
ROUTES = ("80",)
"""What the listeners of bench.world name."""
CONNECT_TIMEOUT = 20.0
"""Seconds for TCP and TLS. The agent's bootstrap says 5, for a machine that does nothing else than one proxy."""
BACK_OFF, LONGEST_BACK_OFF = 0.5, 5.0
_ROOM = 2**31 - 1


@dataclass(slots=True, kw_only=True)
class Stream(asyncio.Protocol):
    """One connection and its stream. ``over`` is done when it has ended, with why."""

    member: Member
    over: asyncio.Future[str]
    transport: asyncio.Transport | None = None
    raw: bytes = b""
    body: bytearray = field(default_factory=bytearray)
    waiting: bytearray = field(default_factory=bytearray)
    stream_window: int = frames.DEFAULT_WINDOW
    window: int = frames.DEFAULT_WINDOW
    decoder: hpack.Decoder = field(default_factory=hpack.Decoder)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        block = hpack.Encoder().encode({**dict(HEAD), ":path": METHOD})
        transport.write(
            b"".join(
                (
                    frames.PREFACE,
                    frames.settings({frames.SETTINGS_INITIAL_WINDOW_SIZE: _ROOM}),
                    frames.window_update(0, _ROOM - frames.DEFAULT_WINDOW),
                    frames.frame(frames.HEADERS, frames.END_HEADERS, 1, block),
                )
            )
        )
        self.member.begin(self)

    def say(self, request: discovery_pb2.DeltaDiscoveryRequest) -> None:
        """Send a request, as far as the windows let it."""
        self.waiting += message(request.SerializeToString())
        self._flush()

    def _flush(self) -> None:
        out = []
        while self.waiting and (size := min(len(self.waiting), self.window, self.stream_window, frames.MAX_FRAME)) > 0:
            out.append(frames.frame(frames.DATA, 0, 1, bytes(self.waiting[:size])))
            del self.waiting[:size]
            self.window -= size
            self.stream_window -= size
        if out and self.transport is not None:
            self.transport.write(b"".join(out))

    def data_received(self, data: bytes) -> None:
        found, self.raw = parse(self.raw + data)
        assert self.transport is not None
        for frame in found:
            if frame.kind == frames.DATA:
                self.body += frame.payload
            elif frame.kind == frames.WINDOW_UPDATE:
                count = int.from_bytes(frame.payload, "big")
                self.stream_window += count * (frame.stream == 1)
                self.window += count * (frame.stream == 0)
            elif frame.kind in {frames.SETTINGS, frames.PING} and not frame.flags:
                payload = frame.payload if frame.kind == frames.PING else b""
                self.transport.write(frames.frame(frame.kind, frames.ACK, 0, payload))
            elif frame.kind == frames.HEADERS:
                self._status(dict(self.decoder.decode(frame.payload)))
        self._flush()
        self._messages()

    def _status(self, headers: Mapping[str, str]) -> None:
        if "grpc-status" in headers:
            self._end(f"status {headers['grpc-status']}: {headers.get('grpc-message', '')}")

    def _messages(self) -> None:
        at = 0
        while len(self.body) >= at + 5:
            end = at + 5 + int.from_bytes(self.body[at + 1 : at + 5], "big")
            if end > len(self.body):
                break
            self.member.hear(self, discovery_pb2.DeltaDiscoveryResponse.FromString(bytes(self.body[at + 5 : end])))
            at = end
        del self.body[:at]

    def connection_lost(self, _: Exception | None) -> None:
        self._end("the connection was closed")

    def _end(self, why: str) -> None:
        if not self.over.done():
            self.over.set_result(why)


@dataclass(slots=True, kw_only=True)
class Member:
    """A proxy: what it says of itself, what it holds, and what it got since ``forget``."""

    said: Mapping[str, Any]
    address: str
    context: ssl.SSLContext
    held: dict[str, dict[str, str]] = field(default_factory=dict)
    got: Counter[str] = field(default_factory=Counter)
    removed: int = 0
    refused: list[str] = field(default_factory=list)
    complete: asyncio.Event = field(default_factory=asyncio.Event)
    served: asyncio.Event = field(default_factory=asyncio.Event)
    stream: Stream | None = None

    def forget(self) -> None:
        """What comes from now on is counted."""
        self.got.clear()
        self.refused.clear()
        self.removed = 0
        self.served.clear()

    async def stay(self, port: int) -> None:
        """Be connected until cancelled."""
        loop, back_off = asyncio.get_running_loop(), BACK_OFF
        while True:
            over: asyncio.Future[str] = loop.create_future()
            stream = Stream(member=self, over=over)
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    await loop.create_connection(
                        lambda made=stream: made,
                        "127.0.0.1",
                        port,
                        ssl=self.context,
                        server_hostname="istiod",
                        local_addr=(self.address, 0) if self.address else None,
                    )
                self.refused.append(await over)
            except (OSError, TimeoutError) as error:
                self.refused.append(f"{type(error).__name__}: {error}")
            finally:
                if stream.transport is not None:
                    stream.transport.abort()
            await asyncio.sleep(random.uniform(0, back_off))  # as Envoy does
            back_off = min(LONGEST_BACK_OFF, back_off * 2)

    def begin(self, stream: Stream) -> None:
        """Ask for the first type; for all, with what it holds, where it has been served before."""
        self.stream = stream
        pod, space = self.said["pod"], self.said["ns"]
        asked = discovery_pb2.DeltaDiscoveryRequest(type_url=names.CLUSTER)
        asked.node.id = f"sidecar~{self.said['ip']}~{pod}.{space}~{space}.svc.cluster.local"
        metadata = {"NAMESPACE": space, "LABELS": self.said["labels"], "SERVICE_ACCOUNT": self.said["sa"]}
        json_format.ParseDict(metadata, asked.node.metadata)
        if not self.complete.is_set():
            stream.say(asked)
            return
        for type_url in ORDER:
            asked.type_url = type_url
            asked.initial_resource_versions.clear()
            asked.initial_resource_versions.update(self.held[type_url])
            del asked.resource_names_subscribe[:]
            if type_url in (names.ENDPOINT, names.ROUTE):
                asked.resource_names_subscribe.extend(self.held[type_url])
            stream.say(asked)
            asked.ClearField("node")

    def hear(self, stream: Stream, response: discovery_pb2.DeltaDiscoveryResponse) -> None:
        """Take a response and ACK it; ask for what it names."""
        type_url = response.type_url
        held = self.held.setdefault(type_url, {})
        fresh = [each.name for each in response.resources if each.name not in held]
        held.update((each.name, each.version) for each in response.resources)
        for name in response.removed_resources:
            held.pop(name, None)
        self.got[type_url] += len(response.resources)
        self.removed += len(response.removed_resources)
        stream.say(discovery_pb2.DeltaDiscoveryRequest(type_url=type_url, response_nonce=response.nonce))
        if type_url == names.CLUSTER:
            self._drop(stream, response.removed_resources)
            self._ask(stream, names.ENDPOINT, (name for name in fresh if name.startswith("outbound|")))
        if not self.complete.is_set():
            self._go_on(stream, type_url)
        self.served.set()

    def _go_on(self, stream: Stream, had: str) -> None:
        """The next type of the first configuration."""
        if had == names.ENDPOINT:
            self._ask(stream, names.LISTENER, ())
        elif had == names.LISTENER:
            self._ask(stream, names.ROUTE, ROUTES)
        elif had == names.ROUTE:
            self.complete.set()

    def _drop(self, stream: Stream, gone: Iterable[str]) -> None:
        """Endpoints go with their clusters, as Envoy's subscriptions do; nobody says that they went."""
        asked = discovery_pb2.DeltaDiscoveryRequest(type_url=names.ENDPOINT)
        asked.resource_names_unsubscribe.extend(name for name in gone if name.startswith("outbound|"))
        for name in asked.resource_names_unsubscribe:
            self.held.get(names.ENDPOINT, {}).pop(name, None)
        if asked.resource_names_unsubscribe:
            stream.say(asked)

    def _ask(self, stream: Stream, type_url: str, wanted: Iterable[str]) -> None:
        asked = discovery_pb2.DeltaDiscoveryRequest(type_url=type_url)
        asked.resource_names_subscribe.extend(wanted)
        if asked.resource_names_subscribe or type_url == names.LISTENER:
            stream.say(asked)
