"""Changes of a service that speaks four protocols, and of what surrounds it, drawn from a seed. Pure, as changes.py.

``echo`` (examples.echo, versions v1 and v2) is asked in HTTP/1.1 on port 7001, HTTP/2 on 7002, gRPC on 7003 and TCP on
7004; ``echo-pods`` is a headless Service of the same pods with HTTP/1.1 on 7006. Each change leaves what its clients
ask for in place. Not drawn, since Istio has no lossless way through them either:

- a protocol that the clients of a port do not speak: HTTP on the port that is asked in TCP, HTTP/1.1 (``http``) on the
  one that is asked in gRPC, whose trailers HTTP/1.1 does not carry; TLS and HTTPS, which tell services apart by SNI;
- mTLS mode DISABLE while clients may still send mTLS: clients and servers learn of it at different times;
- a port that turns from opaque to HTTP/2 while it is asked in HTTP/1.1: its cluster settles on HTTP/2 with the server
  for a moment before the listener of TCP goes;
- a port that turns from HTTP to opaque while another service's HTTP keeps the port's route table: an idle connection of
  HTTP/2 on the draining listener is told to leave with its next answer, and that request meets the table without the
  host (docs/limits.md);
- h2UpgradePolicy UPGRADE for a port that is asked in TCP or turns opaque: it says that HTTP is spoken there, whatever
  is declared;
- connections of HTTP that are older than a drain over a port that was opaque: the proxy can only cut them;
- the removal of a port or service that is being asked.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from tests.story import changes
from tests.story.changes import Change, Raw, istio, text

ANY = ("http", "http2", "grpc", "tcp", "", "appProtocol http", "appProtocol kubernetes.io/h2c", "appProtocol tcp")
"""How a port may be declared: its name's beginning, or appProtocol; "" says nothing."""
TCP = 7004
TURNING = frozenset({7001, 7003})
"""Ports that turn from HTTP to opaque and back."""
HTTP = tuple(said for said in ANY if "tcp" not in said)
OVER_HTTP2 = ("http2", "grpc", "tcp", "", "appProtocol kubernetes.io/h2c", "appProtocol grpc")
OPAQUE = ("tcp", "", "appProtocol tcp", "redis", "mongo")
PORTS: Mapping[int, tuple[str, ...]] = {7001: ANY, 7002: HTTP, 7003: OVER_HTTP2, 7004: OPAQUE}
"""Port to what may be declared of it, for what it is asked in."""
STARTED = {7001: "http", 7002: "http2", 7003: "grpc", 7004: "tcp", 7006: "http"}
IMAGE = "examples.echo"
BALANCERS = ("ROUND_ROBIN", "LEAST_REQUEST", "RANDOM", "PASSTHROUGH")
POOLS: tuple[Raw, ...] = (
    {"tcp": {"maxConnections": 1000, "connectTimeout": "4s"}},
    {"http": {"useClientProtocol": True}},
    {"http": {"maxRequestsPerConnection": 3}},
    {"http": {"idleTimeout": "20s", "http2MaxRequests": 1000}},
)
UPGRADE: Raw = {"http": {"h2UpgradePolicy": "UPGRADE"}}


@dataclass(slots=True)
class Echo:
    """What is there. Every file is made from it anew."""

    declared: dict[int, str] = field(default_factory=lambda: dict(STARTED))
    spare: int = 0
    """Further ports that nobody asks."""
    rules: list[Raw] = field(default_factory=list)
    tcp: list[Raw] = field(default_factory=list)
    policy: Raw = field(default_factory=dict)
    at_port: Raw = field(default_factory=dict)
    services: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Further Services of the same pods: name to port and protocol."""
    ruled: frozenset[str] = frozenset()
    entries: dict[str, Raw] = field(default_factory=dict)
    sidecar: Raw = field(default_factory=dict)
    modes: dict[int, str] = field(default_factory=dict)

    def config(self) -> str:
        """The file of echo's rules."""
        subsets = [{"name": version, "labels": {"version": version}} for version in ("v1", "v2")]
        policy = self.policy | ({"portLevelSettings": [self.at_port]} if self.at_port else {})
        spec: Raw = {"host": "echo", "subsets": subsets} | ({"trafficPolicy": policy} if policy else {})
        documents = [istio("DestinationRule", "echo", spec)]
        routes = {name: value for name, value in (("http", self.rules), ("tcp", self.tcp)) if value}
        if routes:
            documents.append(istio("VirtualService", "echo", {"hosts": ["echo"], **routes}))
        for name in sorted(self.ruled):
            port, _ = self.services[name]
            http = [{"route": [{"destination": {"host": name, "port": {"number": port}}}], "timeout": "9s"}]
            documents.append(istio("VirtualService", name, {"hosts": [name], "http": http}))
        return text(documents)

    def around(self) -> str:
        """The file of what else changes listeners: ServiceEntries, a Sidecar, mTLS modes of ports."""
        documents = [istio("ServiceEntry", name, spec) for name, spec in sorted(self.entries.items())]
        if self.sidecar:
            documents.append(istio("Sidecar", "client", self.sidecar))
        if self.modes:
            levels = {str(port): {"mode": mode} for port, mode in sorted(self.modes.items())}
            spec = {"selector": {"matchLabels": {"app": "echo"}}, "portLevelMtls": levels}
            documents.append(istio("PeerAuthentication", "echo", spec, "security.istio.io"))
        return text(documents) if documents else ""

    def service(self) -> Raw:
        """Service echo."""
        ports = [declared(port, self.declared[port]) for port in PORTS]
        ports += [declared(7010 + number, ("http", "tcp", "")[number % 3], 7005) for number in range(self.spare)]
        return service("echo", ports)

    def pods(self) -> Raw:
        """Service echo-pods."""
        found = service("echo-pods", [declared(7006, self.declared[7006])])
        found["spec"]["clusterIP"] = "None"
        return found


def declared(port: int, said: str, target: int = 0) -> Raw:
    """A Service's port with a protocol as its name or as appProtocol."""
    kind, _, protocol = said.partition(" ")
    found: Raw = {"port": port, "targetPort": target or port, "name": f"{kind or 'any'}-{port}"}
    return found | {"name": f"any-{port}", "appProtocol": protocol} if protocol else found


def service(name: str, ports: list[Raw]) -> Raw:
    """A Service of echo's pods."""
    metadata = {"name": name, "labels": {"app": name}}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"selector": {"app": "echo"}, "ports": ports},
    }


def deployment(version: str) -> Raw:
    """A version of echo."""
    found = changes.deployment("echo", version, IMAGE, 7001)
    (container,) = found["spec"]["template"]["spec"]["containers"]
    container["args"] = ["7001,7002,7003,7004,7005,7006", version]
    return found


def start() -> Change:
    """The service as it opens."""
    echo = Echo()
    workloads = [echo.service(), echo.pods(), deployment("v1"), deployment("v2")]
    return Change(name="open echo", files={"echo.yaml": echo.config()}, workloads=text(workloads), after=True)


Draw = Callable[[Echo, random.Random], Change]


def protocol(echo: Echo, dice: random.Random) -> Change:
    """A port is declared otherwise (fault FT27)."""
    port = dice.choice([*PORTS, 7006])
    known = PORTS.get(port, HTTP)
    before = echo.declared[port]
    if port == 7001 and before in OPAQUE:
        known = tuple(said for said in known if said not in OVER_HTTP2 or said in OPAQUE)
    echo.declared[port] = dice.choice([said for said in known if said != before])
    name = f"port {port} becomes {echo.declared[port] or 'undeclared'}"
    return Change(name=name, workloads=text([echo.pods() if port == 7006 else echo.service()]))


def spare_ports(echo: Echo, dice: random.Random) -> Change:
    """Ports come or go that nobody asks."""
    echo.spare = dice.choice([number for number in range(4) if number != echo.spare])
    return Change(name=f"{echo.spare} spare ports", workloads=text([echo.service()]))


def _split(dice: random.Random, port: int | None = None) -> list[Raw]:
    share = dice.randint(0, 100)
    more: Raw = {"port": {"number": port}} if port else {}
    chosen = (("v1", share), ("v2", 100 - share))
    return [{"destination": {"host": "echo", "subset": v, **more}, "weight": weight} for v, weight in chosen]


def rules(echo: Echo, dice: random.Random) -> Change:
    """HTTP rules come, move or go; requests with x-delay wait two seconds in some (measurement T2)."""
    wait = {"percentage": {"value": 100}, "fixedDelay": "2s"}
    delayed = {"match": [{"headers": {"x-delay": {"exact": "yes"}}}], "fault": {"delay": wait}, "route": _split(dice)}
    plain = {"route": _split(dice), **dice.choice(({}, {"timeout": "20s"}, {"retries": {"attempts": 2}}))}
    echo.rules = dice.choice(([delayed, plain], [delayed, plain], [plain], []))
    return Change(name=f"{len(echo.rules)} rules of echo", files={"echo.yaml": echo.config()})


def tcp_rules(echo: Echo, dice: random.Random) -> Change:
    """TCP rules come, move or go."""
    echo.tcp = [] if echo.tcp and dice.random() < 0.4 else [{"match": [{"port": 7004}], "route": _split(dice, 7004)}]
    return Change(name=f"{len(echo.tcp)} TCP rules of echo", files={"echo.yaml": echo.config()})


def policy(echo: Echo, dice: random.Random) -> Change:
    """The whole traffic policy is another: balancer (PASSTHROUGH: the cluster is one of another type), pool, TLS."""
    balancer: Raw = {"simple": dice.choice(BALANCERS)}
    if balancer["simple"] != "PASSTHROUGH" and dice.random() < 0.4:
        balancer["localityLbSetting"] = {"enabled": dice.random() < 0.7}
        balancer["warmupDurationSecs"] = "1s" if balancer["simple"] in ("ROUND_ROBIN", "LEAST_REQUEST") else None
        balancer = {name: value for name, value in balancer.items() if value is not None}
    parts: Raw = {
        "loadBalancer": balancer,
        "connectionPool": dice.choice(POOLS),
        "outlierDetection": {"consecutive5xxErrors": 5, "interval": "3s", "baseEjectionTime": "5s"},
        "tls": {"mode": "ISTIO_MUTUAL"},
    }
    chosen = sorted(name for name in parts if dice.random() < 0.5)
    echo.policy = {name: parts[name] for name in chosen}
    return Change(name=f"policy of echo: {echo.policy}", files={"echo.yaml": echo.config()})


def policy_of_port(echo: Echo, dice: random.Random) -> Change:
    """One port's policy differs from the others', or no longer."""
    port = dice.choice(list(PORTS))
    pool = dice.choice(POOLS if port == TCP or port in TURNING else (*POOLS, UPGRADE, UPGRADE))
    settings: Raw = dice.choice(({"tls": {"mode": "ISTIO_MUTUAL"}}, {"connectionPool": pool}))
    echo.at_port = {} if echo.at_port else {"port": {"number": port}, **settings}
    return Change(name=f"policy of a port: {echo.at_port}", files={"echo.yaml": echo.config()})


def further(echo: Echo, dice: random.Random) -> Change:
    """Another Service of the same pods on a port number of echo, or one goes, with its rule if it has one."""
    name = f"more-{dice.randint(1, 3)}"
    if name in echo.services:
        had = echo.ruled
        echo.ruled -= {name}
        del echo.services[name]
        files = {"echo.yaml": echo.config()} if name in had else {}
        return Change(name=f"Service {name} goes", files=files, gone=(("Service", name),))
    port = dice.choice((*PORTS, 7006))
    said = dice.choice(OPAQUE[:1] if port in TURNING else ANY)
    echo.services[name] = (port, said)
    files = {}
    if dice.random() < 0.5:
        echo.ruled |= {name}
        files = {"echo.yaml": echo.config()}
    workloads = text([service(name, [declared(port, said, 7005)])])
    return Change(name=f"Service {name} with {said!r} on {port}, rule: {bool(files)}", files=files, workloads=workloads)


def entry(echo: Echo, dice: random.Random) -> Change:
    """A ServiceEntry on a port number of echo comes or goes: it shares echo's listener, or has one of its own."""
    name = f"entry-{dice.randint(1, 4)}"
    if name in echo.entries:
        del echo.entries[name]
        return Change(name=f"{name} goes", files={"around.yaml": echo.around()})
    number = dice.choice((*PORTS, 7006))
    said = dice.choice(("TCP", "TLS") if number in TURNING else ("HTTP", "HTTP2", "GRPC", "TCP", "TLS"))
    port = {"number": number, "name": said.lower(), "protocol": said}
    spec: Raw = {"hosts": [f"{name}.example.com"], "ports": [port], "resolution": "STATIC"}
    spec["endpoints"] = [{"address": "192.0.2.1"}]
    if dice.random() < 0.5:
        spec["addresses"] = [dice.choice(("198.51.100.7", "198.51.100.0/24"))]
    echo.entries[name] = spec
    name = f"{name} with {said} on {port['number']} at {spec.get('addresses')}"
    return Change(name=name, files={"around.yaml": echo.around()})


def sidecar(echo: Echo, dice: random.Random) -> Change:
    """The client sees less, by a Sidecar of its own, or all again."""
    hosts = dice.choice((["./*"], ["*/*"], [f"./{name}.default.svc.cluster.local" for name in ("echo", "echo-pods")]))
    spec: Raw = {"workloadSelector": {"labels": {"app": "client"}}, "egress": [{"hosts": hosts}]}
    echo.sidecar = {} if echo.sidecar else spec
    return Change(name=f"Sidecar of the client: {echo.sidecar}", files={"around.yaml": echo.around()})


def modes(echo: Echo, dice: random.Random) -> Change:
    """A port of echo takes only mTLS, or both, whatever holds for the others."""
    port = dice.choice([*PORTS, 7006])
    if port in echo.modes:
        del echo.modes[port]
    else:
        echo.modes[port] = dice.choice(("STRICT", "PERMISSIVE"))
    return Change(name=f"mTLS of ports: {echo.modes}", files={"around.yaml": echo.around()})


KINDS: Mapping[Draw, int] = {
    protocol: 8, spare_ports: 2, rules: 5, tcp_rules: 3, policy: 4, policy_of_port: 2, further: 4, entry: 4, sidecar: 3,
    modes: 2,
}  # fmt: skip
"""How often each kind is drawn."""


def only(seed: int, count: int) -> Iterator[Change]:
    """So many changes of echo after ``start``."""
    dice, echo = random.Random(seed), Echo()
    for _ in range(count):
        (draw,) = dice.choices(list(KINDS), list(KINDS.values()))
        yield draw(echo, dice)


def mixed(seed: int, count: int) -> Iterator[Change]:
    """Changes of echo and of the shop, two to one."""
    dice = random.Random(seed)
    ours, shops = only(seed, count), changes.changes(seed, count)
    for _ in range(count):
        yield next(ours if dice.random() < 0.67 else shops)
