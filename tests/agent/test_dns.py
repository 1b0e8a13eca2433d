from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import dns.asyncquery
import dns.flags
import dns.message
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.dns import answers, resolvconf, settings, table, tables, upstream
from agent.dns.resolvconf import ResolvConf
from agent.dns.server import DnsServer
from agent.dns.table import Found, NamedHost
from e2e.harness.ports import free_ports
from protos import nds_pb2

LOOPBACK = "127.0.0.1"
REVIEWS = NamedHost(
    host="reviews.shop.svc.cluster.local",
    addresses=("10.0.0.1",),
    registry="Kubernetes",
    short="reviews",
    namespace="shop",
)
HOME = table.home("shop", "shop.svc.cluster.local", ("shop.svc.cluster.local", "svc.cluster.local"))


def built(*hosts: NamedHost, home: table.Home = HOME) -> table.Table:
    return table.build(iter(hosts), home)


def asked(name: str, kind: str = "A", **more: object) -> dns.message.Message:
    return dns.message.make_query(name, kind, **more)  # type: ignore[arg-type]  # options of a test's own


def records(message: dns.message.Message) -> list[str]:
    return sorted(f"{rrset.name.to_text()} {item.to_text()}" for rrset in message.answer for item in rrset)


def test_resolv_conf_says_whom_to_ask_and_where_to_search() -> None:
    text = "# a\nnameserver 10.0.0.53\nnameserver nobody\nnameserver\nsearch A.b. c\noptions ndots:5\nnameserver ::1\n"
    assert resolvconf.read(text) == ResolvConf(servers=("10.0.0.53", "::1"), search=("a.b", "c"))
    assert resolvconf.read("domain a.b\n").search == ("a.b",)
    assert resolvconf.read("search .\n").search == ()


def test_a_proxy_never_asks_itself() -> None:
    found = ResolvConf(servers=("127.0.0.1", "10.0.0.53"), search=())
    assert found.without([("127.0.0.1", 53)]).servers == ("10.0.0.53",)
    assert found.without([("127.0.0.1", 15053)]).servers == ("127.0.0.1", "10.0.0.53")


@pytest.mark.parametrize(
    ("said", "servers", "addresses"),
    [
        ("", (), [("127.0.0.1", 15053)]),
        ("", ("10.0.0.53",), [("127.0.0.1", 15053)]),
        ("", ("::1",), [("::1", 15053)]),
        ("", ("10.0.0.53", "::1"), [("127.0.0.1", 15053), ("::1", 15053)]),
        ("127.0.0.9:53", (), [("127.0.0.9", 53)]),
        ("[::1]:53", (), [("::1", 53)]),
        (":53", (), [("0.0.0.0", 53)]),
    ],
)
def test_the_proxy_listens_where_it_is_told(said: str, servers: tuple[str, ...], addresses: list[object]) -> None:
    found = settings.read({settings.ADDRESS: said}, ResolvConf(servers=servers, search=()))
    assert list(found.addresses) == addresses


@pytest.mark.parametrize("said", ["53", "a:", "a:x", "a:0", "a:65536"])
def test_an_address_that_is_none_is_refused(said: str) -> None:
    with pytest.raises(settings.DnsAddressError, match="no HOST:PORT"):
        settings.read({settings.ADDRESS: said}, ResolvConf(servers=(), search=()))


def test_dns_is_answered_only_where_it_is_asked_for() -> None:
    assert [settings.wanted({settings.CAPTURE: said}) for said in ("true", "1", "false", "")] == [
        True,
        True,
        False,
        False,
    ]
    assert settings.read({settings.PARALLEL: "true"}, ResolvConf(servers=(), search=())).parallel


@pytest.mark.parametrize(
    "name",
    ["reviews", "reviews.shop", "reviews.shop.svc", "reviews.shop.svc.cluster.local"],
)
def test_a_service_is_known_by_all_its_names(name: str) -> None:
    assert built(REVIEWS).find(name) == Found(addresses=("10.0.0.1",))


def test_a_service_of_another_namespace_or_domain_has_fewer_names() -> None:
    other = table.home("other", "svc.cluster.local", ())
    assert built(REVIEWS, home=other).find("reviews") is None
    assert built(REVIEWS, home=other).find("reviews.shop") is not None
    far = table.home("shop", "svc.elsewhere", ())
    assert built(REVIEWS, home=far).find("reviews.shop") is None
    assert built(REVIEWS, home=far).find(REVIEWS.host) is not None


def test_a_whole_name_wins_over_a_short_one() -> None:
    external = NamedHost(host="reviews.shop", addresses=("192.0.2.1",), registry="External")
    for order in ((REVIEWS, external), (external, REVIEWS)):
        assert built(*order).find("reviews.shop") == Found(addresses=("192.0.2.1",))


def test_what_a_resolver_asks_first_is_an_alias() -> None:
    found = built(NamedHost(host="db.Example", addresses=("240.240.0.1",)), REVIEWS)
    alias = found.find("db.example.shop.svc.cluster.local")
    assert alias == Found(addresses=("240.240.0.1",), alias="db.example")
    assert found.find("reviews.shop.svc.cluster.local") == Found(addresses=("10.0.0.1",)), "no alias of itself"


def test_a_wildcard_answers_for_everything_below_it() -> None:
    found = built(
        NamedHost(host="*.example", addresses=("192.0.2.1",)), NamedHost(host="*.a.example", addresses=("192.0.2.2",))
    )
    assert found.find("x.example") == Found(addresses=("192.0.2.1",))
    assert found.find("y.a.example") == Found(addresses=("192.0.2.2",))
    assert found.find("example") is None
    searched = found.find("x.example.shop.svc.cluster.local")
    assert searched == Found(addresses=("192.0.2.1",), alias="x.example")


def test_an_answer_has_the_addresses_of_the_version_asked_for() -> None:
    known = built(NamedHost(host="a.example", addresses=("10.0.0.1", "10.0.0.2", "2001:db8::1")), REVIEWS)

    def answer(name: str, kind: str) -> list[str]:
        found = answers.known(asked(name, kind), known)
        assert found is not None
        assert found.flags & dns.flags.AA
        assert found.rcode() == dns.rcode.NOERROR
        return records(found)

    assert answer("A.example.", "A") == ["A.example. 10.0.0.1", "A.example. 10.0.0.2"]
    assert answer("a.example.", "AAAA") == ["a.example. 2001:db8::1"]
    assert answer("reviews.shop.", "AAAA") == [], "NXDOMAIN would be of the name"
    assert answer("a.example.shop.svc.cluster.local.", "AAAA") == [
        "a.example. 2001:db8::1",
        "a.example.shop.svc.cluster.local. a.example.",
    ]


@pytest.mark.parametrize("query", [asked("a.example", "MX"), asked("b.example"), asked("a.example", "A", rdclass="CH")])
def test_all_else_is_for_the_name_servers(query: dns.message.Message) -> None:
    assert answers.known(query, built(NamedHost(host="a.example", addresses=("10.0.0.1",)))) is None


def test_what_is_too_long_for_a_datagram_is_cut_and_marked() -> None:
    many = tuple(f"10.0.{n // 250}.{n % 250 + 1}" for n in range(500))
    known = built(NamedHost(host="a.example", addresses=many))
    for query, limit in ((asked("a.example"), 512), (asked("a.example", use_edns=0, payload=1232), 1232)):
        response = answers.known(query, known)
        assert response is not None
        short = answers.write(response, query, stream=False)
        assert len(short) <= limit
        assert dns.message.from_wire(short).flags & dns.flags.TC
        whole = dns.message.from_wire(answers.write(response, query, stream=True))
        assert len(records(whole)) == 500


def test_no_datagram_is_longer_than_the_protocol_carries_whatever_a_client_offers() -> None:
    many = tuple(f"10.{n // 62_500}.{n // 250 % 250}.{n % 250 + 1}" for n in range(4_093))  # 65,515 bytes
    query = asked("a.example", use_edns=0, payload=65_535)
    response = answers.known(query, built(NamedHost(host="a.example", addresses=many)))
    assert response is not None
    assert len(answers.write(response, query, stream=True)) > 65_507
    assert len(answers.write(response, query, stream=False)) <= 65_507


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    try:
        answers.read(data)
    except answers.MalformedQueryError:
        return
    assert len(data) >= 12


def test_entries_without_addresses_are_left_out() -> None:
    said = nds_pb2.NameTable()
    said.table["a.example."].ips.append("10.0.0.1")
    said.table["b.example"].registry = "External"
    assert list(tables.hosts(said)) == [NamedHost(host="a.example", addresses=("10.0.0.1",))]


class NameServer(asyncio.DatagramProtocol):
    """Answers A of every name with 192.0.2.53, after some junk that was not asked for; or says nothing."""

    def __init__(self, *, silent: bool = False) -> None:
        self.silent = silent
        self.queries = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.queries += 1
        if not self.silent:
            for answer in (b"junk", bytes([data[0] ^ 1]) + self.answer(data)[1:], data, self.answer(data)):
                self.transport.sendto(answer, addr)  # type: ignore[attr-defined]  # a datagram transport

    @staticmethod
    def answer(data: bytes) -> bytes:
        query = dns.message.from_wire(data)
        response = dns.message.make_response(query)
        response.answer.append(dns.rrset.from_text(query.question[0].name, 5, "IN", "A", "192.0.2.53"))
        return response.to_wire()

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = int.from_bytes(await reader.readexactly(2))
        answer = self.answer(await reader.readexactly(size))
        writer.write(len(answer).to_bytes(2) + answer)
        await writer.drain()
        writer.close()


@asynccontextmanager
async def name_server(host: str, port: int, *, silent: bool = False) -> AsyncIterator[NameServer]:
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(lambda: NameServer(silent=silent), local_addr=(host, port))
    streams = await asyncio.start_server(server.converse, host, port)
    try:
        yield server
    finally:
        streams.close()
        transport.close()


@asynccontextmanager
async def proxy(port: int, *servers: str, upstream_port: int, parallel: bool = False) -> AsyncIterator[DnsServer]:
    found = DnsServer([(LOOPBACK, port)], upstream.Upstream(servers, parallel=parallel, port=upstream_port))
    await found.start()
    try:
        yield found
    finally:
        await found.stop()


async def ask(port: int, name: str = "other.example", *, stream: bool = False) -> tuple[str, list[str]]:
    question = dns.asyncquery.tcp if stream else dns.asyncquery.udp
    found = await question(asked(name), LOOPBACK, timeout=10, port=port)
    return dns.rcode.to_text(found.rcode()), records(found)


ANSWERED = ("NOERROR", ["other.example. 192.0.2.53"])


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("parallel", [False, True])
async def test_unknown_names_go_to_the_first_name_server_that_answers(stream: bool, parallel: bool) -> None:  # noqa: FBT001 (a table's columns)
    own, theirs = free_ports(2)
    async with (
        name_server("127.0.0.2", theirs) as server,
        proxy(own, "127.0.0.3", "127.0.0.2", upstream_port=theirs, parallel=parallel) as found,
    ):
        assert await ask(own) == ("SERVFAIL", []), "before the table is known"
        found.table = built(NamedHost(host="a.example", addresses=("10.0.0.1",)))
        assert await ask(own, stream=stream) == ANSWERED
        assert await ask(own, "a.example", stream=stream) == ("NOERROR", ["a.example. 10.0.0.1"])
        assert server.queries == (0 if stream else 1)


@pytest.mark.parametrize("parallel", [False, True])
async def test_where_no_name_server_answers_the_query_fails_soon(
    parallel: bool,  # noqa: FBT001 (a table's column)
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(upstream, "SECONDS", 0.2)
    own, theirs = free_ports(2)
    async with (
        name_server("127.0.0.2", theirs, silent=True) as server,
        proxy(own, "127.0.0.2", "127.0.0.3", upstream_port=theirs, parallel=parallel) as found,
    ):
        found.table = built()
        assert await ask(own) == ("SERVFAIL", [])
        assert server.queries == 1


@pytest.mark.parametrize("parallel", [False, True])
async def test_without_name_servers_only_the_mesh_is_known(parallel: bool) -> None:  # noqa: FBT001 (a table's column)
    (own,) = free_ports(1)
    async with proxy(own, upstream_port=own, parallel=parallel) as found:
        found.table = built()
        assert await ask(own) == ("SERVFAIL", [])


async def test_junk_gets_no_answer_and_ends_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    (own,) = free_ports(1)
    async with proxy(own, upstream_port=own) as found:
        found.table = built(NamedHost(host="a.example", addresses=("10.0.0.1",)))
        reader, writer = await asyncio.open_connection(LOOPBACK, own)
        writer.write(b"\0\3abc")
        assert await reader.read() == b""
        writer.close()
        assert await found.answer(b"junk", stream=False) is None
        response = dns.message.make_response(asked("a.example")).to_wire()
        assert await found.answer(response, stream=False) is None
        empty = asked("a.example")
        empty.question.clear()
        failed = await found.answer(empty.to_wire(), stream=False)
        assert failed is not None
        assert dns.message.from_wire(failed).rcode() == dns.rcode.SERVFAIL
        monkeypatch.setattr(upstream, "_MOST", 0)
        assert await ask(own) == ("SERVFAIL", [])
