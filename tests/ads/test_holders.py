"""Who may still send to an address: what was ACKed, what is on its way, and those who went away without a word."""

from __future__ import annotations

import gc
import weakref

from envoy.config.core.v3 import health_check_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2

from istiod.ads.holders import MOST_SILENT, SILENT, Holders
from istiod.ads.session import AdsSession, Shared
from istiod.config import resource
from istiod.config.proxy import Peer, Proxy
from istiod.config.resource import Resource
from tests.ads import made
from tests.ads.client import C, Client, E, L, R
from wire import names, node

HOST = "web.shop.svc.cluster.local"
CLUSTER = f"outbound|80|v1|{HOST}"
HELD, OTHER = "10.0.0.9", "10.0.0.91"


def endpoints(*addresses: str, drains: bool = False) -> Resource:
    health = health_check_pb2.DRAINING if drains else health_check_pb2.HEALTHY
    message = endpoint_pb2.ClusterLoadAssignment(cluster_name=CLUSTER)
    group = message.endpoints.add()
    for address in addresses:
        one = endpoint_components_pb2.LbEndpoint(health_status=health)
        one.endpoint.address.socket_address.address = address
        one.endpoint.address.socket_address.port_value = 80
        group.lb_endpoints.append(one)
    return resource.make(CLUSTER, names.ENDPOINT, message.SerializeToString())


def proxy(name: str) -> Proxy:
    claims = node.parse(f"sidecar~10.0.0.1~{name}.shop~shop.svc.cluster.local", {})
    return Proxy(peer=Peer(address="", identity=None), node=claims)


class World:
    """Proxies by name, each with a stream, all of which have a cluster of the host."""

    def __init__(self) -> None:
        self.streams: dict[str, AdsSession] = {}
        self.alive = {"one", "two"}
        self.now = 0.0
        self.holders = Holders(
            lambda: [(proxy(name), session) for name, session in self.streams.items()],
            lambda found: found.node.name in self.alive,
        )

    def start(self, name: str, *addresses: str) -> Client:
        client = Client(*resources(endpoints(*addresses)))
        client.start()
        self.streams[name] = client.session
        return client

    def lose(self, name: str) -> None:
        self.holders.lost(proxy(name), self.streams.pop(name), self.now)

    def find(self, address: str = HELD, host: str = HOST, first: str = "") -> str:
        found = self.holders.find({host}, (address,), self.now, first)
        return found.split("~")[2].partition(".")[0] if found else ""


def resources(held: Resource) -> list[Resource]:
    return [made.cluster(CLUSTER), held, made.route("r0", CLUSTER), made.listener("l0", 9000, "r0")]


def test_who_acked_endpoints_with_an_address_holds_it() -> None:
    world = World()
    world.start("one", OTHER)
    assert world.find() == ""
    world.start("two", HELD)
    assert world.find() == "two"
    assert world.find(host="api.shop.svc.cluster.local") == ""
    assert world.find("10.0.0.1") == ""


def test_it_holds_it_until_it_acks_endpoints_without() -> None:
    world = World()
    client = world.start("one", HELD, OTHER)
    (send,) = client.set(*resources(endpoints(OTHER)))
    assert world.find() == "one"
    client.ack(send)
    assert world.find() == ""


def test_who_refuses_them_still_holds_it() -> None:
    world = World()
    client = world.start("one", HELD, OTHER)
    (send,) = client.set(*resources(endpoints(OTHER)))
    client.ack(send, error="no")
    assert world.find() == "one"


def test_what_is_on_its_way_counts() -> None:
    world = World()
    client = world.start("one", OTHER)
    (send,) = client.set(*resources(endpoints(HELD, OTHER)))
    assert client.set(*resources(endpoints(OTHER))) == []
    assert world.find() == "one"
    (last,) = client.ack(send)
    assert world.find() == "one"
    client.ack(last)
    assert world.find() == ""


def test_an_endpoint_that_drains_is_chosen_no_more() -> None:
    world = World()
    client = world.start("one", HELD)
    (send,) = client.set(*resources(endpoints(HELD, drains=True)))
    client.ack(send)
    assert world.find() == ""


def test_what_a_proxy_brought_from_elsewhere_counts_until_it_is_known_to_be_without() -> None:
    world = World()
    wanted = endpoints(OTHER)
    client = Client(*resources(wanted))
    world.streams["one"] = client.session
    client.ask(E, CLUSTER, initial={CLUSTER: "of another control plane"})
    client.ask(C, initial={CLUSTER: made.cluster(CLUSTER).version})
    assert world.find() == "one"
    same = Client(*resources(wanted))
    same.ask(E, CLUSTER, initial={CLUSTER: wanted.version})
    world.streams = {"two": same.session}
    assert world.find() == ""


def test_one_that_went_without_a_word_counts_for_a_while_or_until_it_is_back() -> None:
    world = World()
    world.start("one", HELD)
    world.lose("one")
    assert world.find() == "one"
    world.now = SILENT
    assert world.find() == ""
    world.start("two", HELD)
    world.lose("two")
    world.start("two", OTHER)
    assert world.find() == ""


def test_one_whose_pod_is_gone_does_not_count_nor_does_who_asked_for_no_endpoints() -> None:
    world = World()
    world.alive = set()
    world.start("one", HELD)
    world.lose("one")
    assert world.find() == ""
    world.alive = {"two"}
    world.streams["two"] = Client(*resources(endpoints(HELD))).session
    assert world.find() == ""
    world.lose("two")
    assert world.find() == ""


def test_only_so_many_that_are_silent_are_remembered() -> None:
    world = World()
    world.alive = {"p0", f"p{MOST_SILENT}"}
    session = world.start("one", HELD).session
    world.streams.clear()
    for number in range(MOST_SILENT + 1):
        world.holders.lost(proxy(f"p{number}"), session, world.now)
    assert world.find() == f"p{MOST_SILENT}"


def test_sessions_of_those_that_were_silent_too_long_are_let_go_when_nobody_asks() -> None:
    """Fault FT56: each holds a whole configuration."""
    world = World()
    one = weakref.ref(world.start("one", HELD).session)
    two = weakref.ref(world.start("two", HELD).session)
    world.lose("one")
    world.now = SILENT - 1
    world.lose("two")
    gc.collect()
    assert one() is not None
    world.start("three", HELD)
    world.now = SILENT
    world.lose("three")
    gc.collect()
    assert one() is None
    assert two() is not None


def test_the_one_found_last_is_asked_first() -> None:
    world = World()
    world.start("one", HELD)
    world.start("two", HELD)
    assert world.find() == "one"
    last = world.holders.find({HOST}, (HELD,), 0.0, proxy("two").node.id)
    assert last == proxy("two").node.id


def test_streams_of_other_types_are_none_of_endpoints() -> None:
    client = Client(*resources(endpoints(HELD)), shared=Shared())
    client.ask(L)
    client.ask(R, "r0")
    assert not client.session.may_use(lambda found: found, lambda _: True)
