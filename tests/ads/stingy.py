"""A client of the server over plain HTTP/2 that answers pings and takes only as many bytes as the test says."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import discovery_pb2
from h2 import events, exceptions
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import SettingCodes, Settings

from wire import names

NODE = "sidecar~10.0.0.1~app.demo~demo.svc.cluster.local"
METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
_PREFIX = 5
"""gRPC's own frame: a flag and a length."""


class StingyClient(asyncio.Protocol):
    """One delta stream with a window of 0 bytes. ``lost`` is set when its connection was cut."""

    def __init__(self) -> None:
        self.http = H2Connection(H2Configuration(client_side=True))
        self.http.local_settings = Settings(client=True, initial_values={SettingCodes.INITIAL_WINDOW_SIZE: 0})
        self.lost = asyncio.Event()
        self.taken = 0
        self.pings = 0
        self._body = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.http.initiate_connection()
        head = [(":method", "POST"), (":scheme", "http"), (":path", METHOD), (":authority", "istiod")]
        self.http.send_headers(1, [*head, ("content-type", "application/grpc"), ("te", "trailers")])
        self.say(discovery_pb2.DeltaDiscoveryRequest(type_url=names.CLUSTER, node=base_pb2.Node(id=NODE)))

    def say(self, message: discovery_pb2.DeltaDiscoveryRequest) -> None:
        body = message.SerializeToString()
        self.http.send_data(1, b"\0" + len(body).to_bytes(4, "big") + body)
        self._flush()

    def take(self, count: int) -> None:
        """Let so many more bytes come."""
        self.http.increment_flow_control_window(count, stream_id=1)
        self.http.increment_flow_control_window(count)
        self._flush()

    def messages(self) -> list[discovery_pb2.DeltaDiscoveryResponse]:
        """The responses that came whole."""
        found, at = [], 0
        while at + _PREFIX <= len(self._body):
            end = at + _PREFIX + int.from_bytes(self._body[at + 1 : at + _PREFIX], "big")
            if end > len(self._body):
                break
            found.append(discovery_pb2.DeltaDiscoveryResponse.FromString(bytes(self._body[at + _PREFIX : end])))
            at = end
        return found

    def data_received(self, data: bytes) -> None:
        with contextlib.suppress(exceptions.ProtocolError):  # a server that leaves may still say something
            for event in self.http.receive_data(data):
                self.pings += isinstance(event, events.PingReceived)
                if isinstance(event, events.DataReceived):
                    self._body += event.data
                    self.taken += len(event.data)
        self._flush()

    def connection_lost(self, _: Exception | None) -> None:
        self.lost.set()

    def close(self) -> None:
        assert self._transport is not None
        self._transport.abort()

    def _flush(self) -> None:
        assert self._transport is not None
        self._transport.write(self.http.data_to_send())


@contextlib.asynccontextmanager
async def clients(port: int, count: int) -> AsyncIterator[list[StingyClient]]:
    """So many of them, each with a connection of its own."""
    loop = asyncio.get_running_loop()
    made = [(await loop.create_connection(StingyClient, "127.0.0.1", port))[1] for _ in range(count)]
    try:
        yield made
    finally:
        for client in made:
            client.close()
