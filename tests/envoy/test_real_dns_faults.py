"""Name servers that fail, keep silent or deny a name that a ServiceEntry has Envoy look up (fault FT32)."""

from __future__ import annotations

import asyncio
import contextlib
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import cast

import pytest

from e2e.harness.ports import free_ports
from tests import figures
from tests.ads import real_envoy
from tests.envoy.test_real_dynamic_dns import World, ask, running
from tests.mesh import fleet
from tests.waiting import until

pytestmark = pytest.mark.envoy
REFUSED, DENIED, EMPTY, SILENT = "SERVFAIL", "NXDOMAIN", "no records", "silence"
RCODES = {REFUSED: 2, DENIED: 3}
LOOK_UPS = 3
"""So many look-ups have to go wrong before what comes of them is looked at."""
MESH = "{dnsRefreshRate: 0.3s, enableAutoMtls: false}"


class NameServer(asyncio.DatagramProtocol):
    """Says 127.0.0.1 for one second of every name, or what ``faults`` say of it."""

    def __init__(self) -> None:
        self.faults: dict[str, str] = {}
        self.asked: Counter[str] = Counter()
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)  # asyncio's own is none by its class

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        labels, end = [], 12
        while size := data[end]:
            labels.append(data[end + 1 : end + 1 + size].decode())
            end += size + 1
        name = ".".join(labels)
        self.asked[name] += 1
        fault = self.faults.get(name, "")
        if fault == SILENT:
            return
        found = b"" if fault else b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 1, 4) + b"\x7f\x00\x00\x01"
        head = data[:2] + struct.pack("!HHHHH", 0x8180 | RCODES.get(fault, 0), 1, bool(found), 0, 0)
        assert self._transport is not None
        self._transport.sendto(head + data[12 : end + 5] + found, addr)


@contextlib.asynccontextmanager
async def name_server() -> AsyncIterator[tuple[NameServer, int]]:
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(NameServer, local_addr=("127.0.0.1", 0))
    try:
        yield server, transport.get_extra_info("sockname")[1]
    finally:
        transport.close()


def asking(port: int) -> str:
    """Clusters that ask this name server, which stands for the pod's own."""
    kind = "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig"
    where = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    resolver = {"@type": kind, "resolvers": [where], "query_timeout_seconds": 1, "query_tries": 1}
    value = {"typed_dns_resolver_config": {"name": "envoy.network.dns_resolver.cares", "typed_config": resolver}}
    patches = [
        {
            "applyTo": "CLUSTER",
            "match": {"cluster": {"service": host}},
            "patch": {"operation": "MERGE", "value": value},
        }
        for host in ("a.example", "b.example")
    ]
    return fleet.dump("networking.istio.io/v1alpha3", "EnvoyFilter", "resolver", spec={"configPatches": patches})


def entries(port: int, one: int, two: int) -> Iterator[str]:
    for host, app in (("a.example", one), ("b.example", two)):
        ports = [{"name": "http", "number": port, "protocol": "HTTP", "targetPort": app}]
        spec = {"hosts": [host], "ports": ports, "resolution": "DNS", "location": "MESH_EXTERNAL"}
        yield fleet.istio("ServiceEntry", host.replace(".", "-"), spec)


async def meets(world: World, names: NameServer, fault: str, port: int) -> list[str]:
    """What a client of a.example gets while its name has this fault; b.example goes on."""
    names.faults["a.example"] = fault
    asked, found = names.asked["a.example"], []

    async def often() -> bool:
        found.append(await ask(port, "a.example"))
        assert await ask(port, "b.example") == "two"
        return names.asked["a.example"] >= asked + LOOK_UPS

    await until(often, f"{LOOK_UPS} look-ups that meet {fault}")
    assert world.server.converged()
    return found


async def test_envoy_keeps_addresses_unless_the_name_is_denied_and_other_hosts_go_on(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    async with (
        name_server() as (names, at),
        running(tmp_path) as world,
        real_envoy.app("one") as one,
        real_envoy.app("two") as two,
    ):
        await world.settle(fleet.mesh_config(MESH), asking(at), *entries(port, one, two))

        async def good() -> bool:
            return await ask(port, "a.example") == "one"

        await until(good, "it is resolved")
        for fault in (REFUSED, SILENT):
            assert set(await meets(world, names, fault, port)) == {"one"}, fault
        for fault in (DENIED, EMPTY):
            assert (await meets(world, names, fault, port))[-1] == "status 503", "as Envoy has it: docs/limits.md"
            names.faults.clear()
            began = time.monotonic()
            await until(good, "it is resolved again")
            figures.say(f"back {time.monotonic() - began:.2f} s after {fault}")
