"""What the agent and the local mesh read of names: packets of DNS, istiod's name table, resolv.conf."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import struct

import dns.message
from google.protobuf.message import DecodeError

from agent.dns import resolvconf, table, tables
from agent.dns import settings as dns_settings
from agent.dns.server import DnsServer
from agent.dns.upstream import Upstream
from node import resolver
from protos import nds_pb2
from tests.fuzz.of_agent import answering
from tests.fuzz.target import Target, run, text

HOME = table.home("shop", "shop.svc.cluster.local", ("shop.svc.cluster.local",))


def queried(raw: bytes) -> None:
    """A packet of DNS, over UDP and TCP; answers come from the table or from a name server that makes no sense."""
    query, _, answer = raw.partition(b"\x1f\x1f")

    async def ask() -> None:
        async with answering(struct.pack("!H", len(answer) & 0xFFFF) + answer) as port:
            server = DnsServer((), Upstream(("127.0.0.1",), port=port))
            server.table = _names()
            await server.answer(query, stream=True)

    run(ask())
    resolver.answer(query, {"reviews.shop.svc.cluster.local": ("10.0.0.1",), "a.b": ("c.d",), "c.d": ("1.2.3.4",)})


@functools.cache
def _names() -> table.Table:
    known = nds_pb2.NameTable()
    known.table["reviews.shop.svc.cluster.local"].ips.append("10.0.0.1")
    known.table["reviews.shop.svc.cluster.local"].registry = "Kubernetes"
    known.table["reviews.shop.svc.cluster.local"].shortname = "reviews"
    known.table["reviews.shop.svc.cluster.local"].namespace = "shop"
    known.table["*.wild.example"].ips.extend(("10.0.0.2", "fd00::2"))
    return table.build(tables.hosts(known), HOME)


def conversations(raw: bytes) -> None:
    """Bytes of a client over TCP."""

    async def ask() -> None:
        server = DnsServer((("127.0.0.1", 0),), Upstream([]))
        server.table = _names()
        async with await asyncio.start_server(server._converse, "127.0.0.1", 0) as listening:
            reader, writer = await asyncio.open_connection(*listening.sockets[0].getsockname())
            with contextlib.suppress(OSError):
                writer.write(raw)
                writer.write_eof()
                await reader.read()
            writer.close()

    run(ask())


def name_tables(raw: bytes) -> None:
    """A table of istiod's; the one before is kept where it is none."""
    known = table.build(tables.hosts(nds_pb2.NameTable.FromString(raw)), HOME)
    known.find("reviews.shop.svc.cluster.local")


def resolv(raw: bytes) -> None:
    found = resolvconf.read(text(raw))
    dns_settings.read({"DNS_PROXY_ADDR": text(raw)[:50]}, found)


def _query(name: str, kind: str) -> bytes:
    return bytes(dns.message.make_query(name, kind, use_edns=True).to_wire())


def _table() -> bytes:
    known = nds_pb2.NameTable()
    known.table["a.b.svc.cluster.local"].ips.append("10.0.0.1")
    return bytes(known.SerializeToString())


def _targets() -> tuple[Target, ...]:
    return (
        Target(
            name="dns",
            call=queried,
            seeds=(
                _query("reviews.shop.svc.cluster.local", "A"),
                _query("reviews", "AAAA"),
                _query("a.wild.example", "A"),
                _query("a.wild.example.shop.svc.cluster.local", "A"),
                _query("out.example", "A")
                + b"\x1f\x1f"
                + dns.message.make_response(dns.message.make_query("a.b", "A")).to_wire(),
            ),
        ),
        Target(
            name="dns-stream",
            call=conversations,
            seeds=(
                struct.pack("!H", 29) + _query("reviews", "A")[:29],
                struct.pack("!H", len(_query("a.b", "A"))) + _query("a.b", "A"),
            ),
        ),
        Target(
            name="name-table",
            call=name_tables,
            refusals=(DecodeError,),
            seeds=(b"\n)\n\x0ea.b.svc.c.local\x12\x17\n\x0810.0.0.1\x12\nKubernetes", _table()),
        ),
        Target(
            name="resolv.conf",
            call=resolv,
            refusals=(dns_settings.DnsAddressError,),
            seeds=(b"nameserver 10.0.0.1\nsearch a.b c\ndomain d\n", b"127.0.0.1:53"),
        ),
    )


TARGETS = _targets()
