"""Name tables from the control plane: one ADS stream with the pod's token, begun anew when it breaks (rows C12, D9).

While there is none, what was known last is answered with.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf import json_format
from google.protobuf.message import DecodeError

from agent.dns.table import NamedHost
from agent.sds.identity import CaClient, IdentityError
from protos import nds_pb2
from wire import names

_METHOD: Final = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
_BACK_OFF: Final = (0.5, 15.0)
_LARGEST: Final = 16 << 20
_LOG: Final = logging.getLogger("dns")


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """Who asks, as Envoy says it in its bootstrap."""

    id: str
    cluster: str
    metadata: Mapping[str, Any]


def hosts(table: nds_pb2.NameTable) -> Iterator[NamedHost]:
    """The entries of a table; without addresses there is nothing to answer."""
    for host, info in table.table.items():
        if info.ips:
            yield NamedHost(
                host=host.rstrip("."),
                addresses=tuple(info.ips),
                registry=info.registry,
                short=info.shortname,
                namespace=info.namespace,
            )


async def follow(client: CaClient, node: Node, take: Callable[[nds_pb2.NameTable], None]) -> None:
    """Give each table to ``take``, until cancelled."""
    delay = _BACK_OFF[0]
    while True:
        try:
            async for table in _stream(client, node):
                take(table)
                delay = _BACK_OFF[0]
        except (OSError, IdentityError, grpc.aio.AioRpcError, DecodeError) as error:
            said = f"{error.code().name} {error.details()}" if isinstance(error, grpc.aio.AioRpcError) else str(error)
            _LOG.warning("no name table from %s: %s", client.address, said)
        await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 (jitter)
        delay = min(delay * 2, _BACK_OFF[1])


async def _stream(client: CaClient, node: Node) -> AsyncIterator[nds_pb2.NameTable]:
    token, pem = client.token.read_text().strip(), client.roots.read()
    options = (
        ("grpc.ssl_target_name_override", client.server_name),
        ("grpc.service_config_disable_resolution", 1),
        ("grpc.enable_http_proxy", 0),
        ("grpc.max_receive_message_length", _LARGEST),
        ("grpc.keepalive_time_ms", 60_000),
    )
    async with grpc.aio.secure_channel(await client.target(), grpc.ssl_channel_credentials(pem), options) as channel:
        ask = channel.stream_stream(
            _METHOD,
            request_serializer=nds_pb2.TableRequest.SerializeToString,
            response_deserializer=nds_pb2.TableResponse.FromString,
        )
        call = ask(metadata=(("authorization", f"Bearer {token}"),))
        await call.write(_request(node))
        while isinstance(response := await call.read(), nds_pb2.TableResponse):  # else it is the end
            for packed in response.resources:
                yield nds_pb2.NameTable.FromString(packed.value)
            await call.write(_request(node, response))


def _request(node: Node, answered: nds_pb2.TableResponse | None = None) -> nds_pb2.TableRequest:
    request = nds_pb2.TableRequest(type_url=names.NAME_TABLE)
    if answered is None:
        request.node.id, request.node.cluster = node.id, node.cluster
        json_format.ParseDict(dict(node.metadata), request.node.metadata)
    else:
        request.version_info, request.response_nonce = answered.version_info, answered.nonce
    return request
