"""The six traffic types of features S43 and S44 on real iptables: which listener a connection meets, by which rules.

Listeners run as user 1337 in Envoy's place. Rules of the nat table count connections (their first packet), so the
difference of the counters is the path.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.agent import netns
from tests.agent.netns import Namespace

pytestmark = pytest.mark.root

STAND_IN = str(Path(__file__).with_name("stand_in.py"))
TEMPLATE = "-p 15001 -z 15006 -u 1337 -m REDIRECT -i * -x  -b * -d 15090,15021,15020 --log_output_level=default:info"
ENVOY, APP, AGENT = "1337", "1000", "1337"
VIP = "10.0.0.10"

# The nine rules of ISTIO_OUTPUT as iptables-save prints them (S36 to S42).
OUT = "-A ISTIO_OUTPUT "
RULE_1 = OUT + "-s 127.0.0.6/32 -o lo -j RETURN"
RULE_2 = OUT + "! -d 127.0.0.1/32 -o lo -p tcp -m tcp ! --dport 15008 -m owner --uid-owner 1337 -j ISTIO_IN_REDIRECT"
RULE_3 = OUT + "-o lo -m owner ! --uid-owner 1337 -j RETURN"
RULE_4 = OUT + "-m owner --uid-owner 1337 -j RETURN"
RULE_9 = OUT + "-j ISTIO_REDIRECT"
OUTPUT = "-A OUTPUT -j ISTIO_OUTPUT"
TO_OUTBOUND = "-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001"
TO_INBOUND = "-A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006"
PREROUTING = "-A PREROUTING -p tcp -j ISTIO_INBOUND"
INBOUND = "-A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT"


def asking(pod: Namespace, uid: str, address: str, port: int) -> str:
    return pod.run(sys.executable, STAND_IN, uid, netns.dump({"ask": [address, port]})).strip()


@contextmanager
def serving(
    pod: Namespace, uid: str, listen: dict[str, str], vips: dict[str, list[object]] | None = None
) -> Iterator[None]:
    with pod.serving(sys.executable, STAND_IN, uid, netns.dump({"listen": listen, "vips": vips or {}})):
        yield


@pytest.fixture(scope="module")
def world() -> Iterator[tuple[Namespace, Namespace]]:
    """A pod in the mesh, with proxy and app, and another pod with an app and istiod, without rules."""
    with ExitStack() as stack:
        ours, other = stack.enter_context(netns.pods(2))
        done = ours.istio_iptables(*TEMPLATE.split(" "))
        assert done.returncode == 0, done.stderr
        vips = {f"{VIP}:80": [other.address, 8080], f"{VIP}:81": [ours.address, 8080]}
        proxy = {":15001": "outbound", ":15006": "inbound", ":15090": "metrics", "127.0.0.1:15000": "admin"}
        stack.enter_context(serving(ours, ENVOY, proxy, vips))
        stack.enter_context(serving(ours, AGENT, {":15020": "agent", ":15021": "health"}))
        stack.enter_context(serving(ours, APP, {":8080": "app", "127.0.0.1:9000": "local"}))
        stack.enter_context(serving(other, APP, {":8080": "other", ":15012": "istiod"}))
        yield ours, other


@contextmanager
def path(pod: Namespace) -> Iterator[dict[str, int]]:
    """Filled at the end with the rules that counted, and how many connections."""
    before = pod.counters()
    hit: dict[str, int] = {}
    yield hit
    hit |= {rule: count - before[rule] for rule, count in pod.counters().items() if count != before[rule]}


def test_type_1_remote_to_local_comes_out_at_the_inbound_port_and_reaches_the_app_from_127_0_0_6(
    world: tuple[Namespace, Namespace],
) -> None:
    """Row SEC71 of the hostile inputs."""
    ours, other = world
    with path(ours) as hit:
        answer = asking(other, APP, ours.address, 8080)
    assert answer == f"inbound({ours.address}:8080) > app from 127.0.0.6"
    assert hit == {PREROUTING: 1, INBOUND: 1, TO_INBOUND: 1, OUTPUT: 1, RULE_1: 1}


def test_type_2_local_to_remote_comes_out_at_the_outbound_port_and_leaves_as_the_proxy(
    world: tuple[Namespace, Namespace],
) -> None:
    """Row SEC70 of the hostile inputs."""
    ours, other = world
    with path(ours) as hit:
        answer = asking(ours, APP, VIP, 80)
    assert answer == f"outbound({VIP}:80) > other from {ours.address}"
    assert hit == {OUTPUT: 2, RULE_9: 1, TO_OUTBOUND: 1, RULE_4: 1}
    with path(ours) as hit:
        answer = asking(ours, APP, other.address, 8080)
    assert answer == f"outbound({other.address}:8080) > other from {ours.address}"
    assert hit == {OUTPUT: 2, RULE_9: 1, TO_OUTBOUND: 1, RULE_4: 1}


@pytest.mark.parametrize(("port", "name"), [(15020, "agent"), (15021, "health"), (15090, "metrics")])
def test_type_3_prometheus_and_probes_pass_the_proxy_by(
    world: tuple[Namespace, Namespace],
    port: int,
    name: str,
) -> None:
    ours, other = world
    with path(ours) as hit:
        answer = asking(other, APP, ours.address, port)
    assert answer == f"{name} from {other.address}"
    assert hit == {PREROUTING: 1, f"-A ISTIO_INBOUND -p tcp -m tcp --dport {port} -j RETURN": 1}


def test_type_4_a_pod_that_calls_itself_by_its_service_crosses_outbound_then_inbound(
    world: tuple[Namespace, Namespace],
) -> None:
    ours, _ = world
    with path(ours) as hit:
        answer = asking(ours, APP, VIP, 81)
    assert answer == f"outbound({VIP}:81) > inbound({ours.address}:8080) > app from 127.0.0.6"
    assert hit == {OUTPUT: 3, RULE_9: 1, TO_OUTBOUND: 1, RULE_2: 1, TO_INBOUND: 1, RULE_1: 1}


def test_type_5_what_the_proxy_does_on_lo_stays_there(world: tuple[Namespace, Namespace]) -> None:
    ours, _ = world
    with path(ours) as hit:
        answer = asking(ours, ENVOY, "127.0.0.1", 15000)
    assert answer == "admin from 127.0.0.1"
    assert hit == {OUTPUT: 1, RULE_4: 1}


def test_type_6_the_sidecar_reaches_istiod_without_itself(world: tuple[Namespace, Namespace]) -> None:
    ours, other = world
    with path(ours) as hit:
        answer = asking(ours, AGENT, other.address, 15012)
    assert answer == f"istiod from {ours.address}"
    assert hit == {OUTPUT: 1, RULE_4: 1}


def test_an_app_that_calls_localhost_or_its_own_pod_address_meets_no_proxy(world: tuple[Namespace, Namespace]) -> None:
    ours, _ = world
    with path(ours) as hit:
        answers = [asking(ours, APP, "127.0.0.1", 9000), asking(ours, APP, ours.address, 8080)]
    assert answers == ["local from 127.0.0.1", f"app from {ours.address}"]
    assert hit == {OUTPUT: 2, RULE_3: 2}


# What capture does not stop (row SEC70 of the hostile inputs), so that the page about it is true

ECHO = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here:
    here.bind(("", 7))
    print("ready", flush=True)
    while True:
        data, peer = here.recvfrom(64)
        here.sendto(data + peer[0].encode(), peer)
"""
DATAGRAM = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here:
    here.settimeout(10)
    here.sendto(b"from ", (sys.argv[1], 7))
    print(here.recv(64).decode())
"""
PING = """
import socket, struct, sys
with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as here:
    here.settimeout(10)
    body = struct.pack("!BBHHH", 8, 0, 0, 1, 1)
    rest = sum(struct.unpack("!4H", body))
    here.sendto(struct.pack("!BBHHH", 8, 0, ~((rest >> 16) + rest) & 0xFFFF, 1, 1), (sys.argv[1], 0))
    print("pong" if here.recv(1024)[20] == 0 else "?")
"""


def test_an_app_that_runs_as_the_proxys_user_leaves_without_the_proxy(world: tuple[Namespace, Namespace]) -> None:
    ours, other = world
    with path(ours) as hit:
        answer = asking(ours, ENVOY, other.address, 8080)
    assert answer == f"other from {ours.address}"
    assert hit == {OUTPUT: 1, RULE_4: 1}


def test_udp_and_icmp_leave_without_the_proxy(world: tuple[Namespace, Namespace]) -> None:
    ours, other = world
    with other.serving(sys.executable, "-c", ECHO), path(ours) as hit:
        assert ours.run(sys.executable, "-c", DATAGRAM, other.address) == f"from {ours.address}\n"
        assert ours.run(sys.executable, "-c", PING, other.address) == "pong\n"
    assert hit.keys().isdisjoint({TO_OUTBOUND, TO_INBOUND}), "no rule leads it anywhere"


def test_excluded_ports_leave_and_come_in_without_the_proxy() -> None:
    with netns.pods(2) as (ours, other):
        done = ours.istio_iptables(*TEMPLATE.split(" "), "-o", "8080", "-d", "9090,15090,15021,15020")
        assert done.returncode == 0, done.stderr
        with serving(other, APP, {":8080": "other"}), serving(ours, APP, {":9090": "app"}):
            assert asking(ours, APP, other.address, 8080) == f"other from {ours.address}"
            assert asking(other, APP, ours.address, 9090) == f"app from {other.address}"
