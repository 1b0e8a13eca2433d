"""What holds for every mesh: no order of objects matters, every reference exists, no domain stands twice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from crds.meta import Object
from istiod.config.store import ConfigStore
from istiod.mesh import perspective, route_tables
from istiod.mesh.recall import Recall
from istiod.mesh.scope import ChainMatch, Listener, OutboundScope
from tests.mesh import world

pytestmark = pytest.mark.timeout(300)  # a hundred drawn meshes take 20 s alone, six times that on a busy machine

NAMESPACES = st.sampled_from(["default", "other"])
NAMES = st.sampled_from(["a", "b", "c"])
HOSTS = st.sampled_from(
    [
        "a",
        "a",
        "a",
        "b",
        "a.other.svc.cluster.local",
        "*.default.svc.cluster.local",
        "x.example",
        "*.example",
        "*",
        "none",
    ]
)
PORTS = st.sampled_from(["http:80", "http:81", "tcp:80", "tls:80", "undeclared:80", "grpc-web:81", "tcp:9000"])
ADDRESSES = st.sampled_from(["10.0.0.1", "10.0.0.2", "None"])
CREATED = st.sampled_from(["", "2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z"])
PROTOCOLS = st.sampled_from(["HTTP", "TCP", "TLS", "HTTPS", "", "GRPC"])
PREFIXES = st.sampled_from([[], ["10.9.0.1"], ["10.9.0.0/16"], ["10.0.0.1"]])
MATCHES = st.sampled_from(
    [
        {},
        {"uri": {"prefix": "/a"}},
        {"uri": {"prefix": "/"}},
        {"sourceLabels": {"app": "web"}},
        {"gateways": ["gw"]},
        {"port": 80},
        {"sourceNamespace": "other"},
    ]
)


@st.composite
def services(draw: st.DrawFn) -> str:
    ports = draw(st.lists(PORTS, min_size=1, max_size=3, unique_by=lambda port: port.partition(":")[0]))
    numbers = list({port.partition(":")[2]: port for port in ports}.values())
    return world.service(draw(NAMES), *numbers, ip=draw(ADDRESSES), namespace=draw(NAMESPACES), created=draw(CREATED))


@st.composite
def entries(draw: st.DrawFn) -> str:
    spec = {
        "hosts": draw(
            st.lists(
                st.sampled_from(
                    [
                        "x.example",
                        "y.example",
                        "*.example",
                        "a.other",
                        "a.b.other.svc.cluster.local",
                        "a",
                        "b.default",
                        "A.other.svc.cluster.local",
                        "*.a",
                    ]
                ),
                min_size=1,
                unique=True,
            )
        ),
        "addresses": draw(PREFIXES),
        "ports": [{"name": "p", "number": draw(st.sampled_from([80, 81, 9000])), "protocol": draw(PROTOCOLS)}],
        "resolution": "NONE",
    }
    return world.entry(draw(NAMES), yaml.safe_dump(spec), namespace=draw(NAMESPACES), created=draw(CREATED))


@st.composite
def dynamic_entries(draw: st.DrawFn) -> str:
    spec = {
        "hosts": draw(st.lists(st.sampled_from(["*.example", "*.a"]), min_size=1, unique=True)),
        "ports": [
            {
                "name": "p",
                "number": draw(st.sampled_from([80, 81, 9000])),
                "protocol": draw(st.sampled_from(["HTTP", "GRPC", "TLS"])),
            }
        ],
        "resolution": "DYNAMIC_DNS",
    }
    return world.entry(f"dynamic-{draw(NAMES)}", yaml.safe_dump(spec), namespace=draw(NAMESPACES))


def destination(draw: st.DrawFn) -> dict[str, object]:
    found: dict[str, object] = {"host": draw(HOSTS.filter(lambda host: "*" not in host))}
    if draw(st.booleans()):
        found["subset"] = draw(st.sampled_from(["v1", "v9"]))
    if draw(st.booleans()):
        found["port"] = {"number": draw(st.sampled_from([80, 81, 9000]))}
    return {"destination": found, "weight": draw(st.integers(0, 2))}


@st.composite
def virtual_services(draw: st.DrawFn) -> str:
    http = [
        {
            "name": f"r{index}",
            "match": draw(st.lists(MATCHES, max_size=2)),
            "route": [destination(draw) for _ in range(draw(st.integers(1, 2)))],
        }
        for index in range(draw(st.integers(0, 3)))
    ]
    tcp = [{"match": [{"port": 9000}], "route": [destination(draw)]} for _ in range(draw(st.integers(0, 1)))]
    tls = [
        {"match": [{"sniHosts": draw(st.lists(HOSTS, min_size=1, max_size=2))}], "route": [destination(draw)]}
        for _ in range(draw(st.integers(0, 1)))
    ]
    spec = {
        "hosts": draw(st.lists(HOSTS, min_size=1, max_size=2, unique=True)),
        "gateways": draw(st.sampled_from([[], ["mesh"], ["gw"], ["mesh", "other/gw"]])),
        "exportTo": draw(st.sampled_from([[], ["."], ["other"]])),
        "http": http,
        "tcp": tcp,
        "tls": tls,
    }
    return world.rules(draw(NAMES), yaml.safe_dump(spec), namespace=draw(NAMESPACES), created=draw(CREATED))


@st.composite
def destination_rules(draw: st.DrawFn) -> str:
    spec = {
        "host": draw(HOSTS),
        "exportTo": draw(st.sampled_from([[], [], ["."], ["other"], ["*"]])),
        "trafficPolicy": {"connectionPool": {"tcp": {"maxConnections": draw(st.integers(1, 9))}}},
        "subsets": [{"name": "v1", "labels": {"version": draw(st.sampled_from(["v1", "v2"]))}}],
    }
    namespace = draw(st.sampled_from(["default", "other", "istio-system"]))
    return world.rules(draw(NAMES), yaml.safe_dump(spec), namespace=namespace).replace(
        "kind: VirtualService", "kind: DestinationRule"
    )


@st.composite
def aliases(draw: st.DrawFn) -> str:
    document = yaml.safe_load(world.service(draw(st.sampled_from(["c", "d"])), "http:80", namespace=draw(NAMESPACES)))
    document["spec"] |= {"type": "ExternalName", "externalName": draw(st.sampled_from(["a.default.svc.cluster.local"]))}
    return yaml.safe_dump(document)


MODES = st.sampled_from(["PASSTHROUGH", "AUTO_PASSTHROUGH", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"])


@st.composite
def gateways(draw: st.DrawFn) -> str:
    servers = [
        {
            "port": {"number": draw(st.sampled_from([80, 81])), "name": "p", "protocol": draw(PROTOCOLS)},
            "hosts": draw(
                st.lists(st.sampled_from(["*", "./x.example", "other/*", "*.example"]), min_size=1, unique=True)
            ),
            "tls": {"httpsRedirect": draw(st.booleans()), "mode": draw(MODES)},
        }
        for _ in range(draw(st.integers(1, 2)))
    ]
    return world.gateway("gw", yaml.safe_dump({"servers": servers}), namespace=draw(NAMESPACES), created=draw(CREATED))


@st.composite
def meshes(draw: st.DrawFn) -> list[Object]:
    several = (
        draw(st.lists(services(), max_size=4)),
        draw(st.lists(entries(), max_size=2)),
        draw(st.lists(dynamic_entries(), max_size=1)),
        draw(st.lists(virtual_services(), max_size=3)),
        draw(st.lists(gateways(), max_size=2)),
        draw(st.lists(destination_rules(), max_size=2)),
        draw(st.lists(aliases(), max_size=1)),
    )
    texts = [world.subsets("a", "v1"), *(text for group in several for text in group)]
    found = (world.read(yaml.safe_load(text)) for text in texts)
    return list({item.key: item for item in found}.values())


def built(objects: list[Object], previous: world.World | None = None) -> world.World:
    store = ConfigStore()
    for item in objects:
        store.apply(item)
    return world.of(store.snapshot(), previous=previous)


def scopes(mesh: world.World, recall: Recall | None = None) -> list[OutboundScope]:
    return [
        mesh.sidecar("default", recall=recall),
        mesh.sidecar("other", {"app": "web"}, recall=recall),
        mesh.sidecar("third", recall=recall),
        mesh.sidecar("istio-system", recall=recall),
        mesh.router(labels={}, ports=((80, 8080),), recall=recall),
        mesh.router("other", labels={}, ports=(), recall=recall),
    ]


def content(scope: OutboundScope) -> tuple[object, ...]:
    return (scope.clusters, scope.listeners, scope.routes)


@settings(max_examples=100, deadline=None)
@given(meshes(), st.randoms(use_true_random=False))
def test_the_order_of_objects_changes_nothing(objects: list[Object], random: object) -> None:
    shuffled = list(objects)
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis gives a random.Random
    one, other = built(objects), built(shuffled)
    assert [content(scope) for scope in scopes(one)] == [content(scope) for scope in scopes(other)]
    assert sorted(map(str, one.findings())) == sorted(map(str, other.findings()))


@settings(max_examples=100, deadline=None)
@given(meshes(), meshes(), st.integers(0, 10))
def test_what_is_remembered_changes_no_answer(first: list[Object], more: list[Object], gone: int) -> None:
    recall = Recall()
    before = built(first)
    scopes(before, recall)
    then = list({item.key: item for item in (*first[gone:], *more)}.values())
    after = built(then, before)
    expected = [content(scope) for scope in scopes(built(then))]
    assert [content(scope) for scope in scopes(after, recall.next())] == expected


def each_for_itself(patch: pytest.MonkeyPatch) -> None:
    """Nothing is made for several namespaces: each sees rules itself, and gives all domains of its tables out anew."""
    patch.setattr(perspective, "of", lambda _model, _index, namespace, _recall: namespace)
    patch.setattr(
        route_tables.Builder,
        "_local",
        lambda self, base, resolver: self._table(
            base.table.name, self._of_port(self._finder(resolver), self.namespace)
        ),
    )


@settings(max_examples=100, deadline=None)
@given(meshes())
def test_what_namespaces_share_is_what_each_would_get_for_itself(objects: list[Object]) -> None:
    mesh = built(objects)
    shared = [content(scope) for scope in scopes(mesh, Recall())]
    with pytest.MonkeyPatch.context() as patch:
        each_for_itself(patch)
        assert [content(scope) for scope in scopes(mesh)] == shared


@settings(max_examples=100, deadline=None)
@given(meshes())
def test_every_reference_exists(objects: list[Object]) -> None:
    for scope in scopes(built(objects)):
        for listener in scope.listeners.values():
            for chain in (*listener.chains, *((listener.default_chain,) if listener.default_chain else ())):
                assert chain.http is None or chain.http.rds in scope.routes
                assert chain.tcp is None or all((w.cluster in scope.clusters) is w.known for w in chain.tcp.clusters)
        named = {chain.http.rds for one in scope.listeners.values() for chain in one.chains if chain.http}
        assert named == set(scope.routes)
        for table in scope.routes.values():
            for route in (route for host in table.virtual_hosts for route in host.routes):
                for to in (
                    *(one.destination for one in route.destinations),
                    *(one.destination for one in route.mirrors),
                ):
                    assert (to.cluster in scope.clusters) is to.known


@settings(max_examples=100, deadline=None)
@given(meshes())
def test_envoy_would_refuse_no_table_and_no_listener(objects: list[Object]) -> None:
    for scope in scopes(built(objects)):
        for table in scope.routes.values():
            names = [host.name for host in table.virtual_hosts]
            domains = [domain.lower() for host in table.virtual_hosts for domain in host.domains]
            assert len(set(names)) == len(names)
            assert len(set(domains)) == len(domains)
            assert all(host.domains for host in table.virtual_hosts)
        for listener in scope.listeners.values():
            single = [one for chain in listener.chains for one in conditions(chain.match)]
            assert len(set(single)) == len(single)
        addresses = [place(listener) for listener in scope.listeners.values()]
        assert len(set(addresses)) == len(addresses)


def conditions(match: ChainMatch) -> Iterator[tuple[object, ...]]:
    """Every combination that a chain matches: no two chains of a listener may have one in common."""
    for prefix in match.prefixes or ("",):
        for name in match.server_names or ("",):
            for protocol in match.application_protocols or ("",):
                yield match.destination_port, prefix, name.lower(), match.transport_protocol, protocol


def place(listener: Listener) -> tuple[str, int]:
    return listener.address, listener.port
