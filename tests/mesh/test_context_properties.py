"""What holds for every mesh, in whatever order its objects came."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator, Mapping

from hypothesis import given, settings
from hypothesis import strategies as st

from istiod.envoy import listener
from istiod.mesh import context
from istiod.mesh.context import MeshContext
from istiod.mesh.scope import Chain, InboundScope, Listener, OutboundScope, Scope
from istiod.mesh.settings import MeshSettings
from tests.mesh import fleet
from tests.mesh.test_context import CLIENT, GATEWAY, MORE, PODS, SERVICES, SLICE, SUBSETS, gateway, route


@dataclasses.dataclass(frozen=True)
class Keys:
    """Keys that were fetched for URI."""

    text: str


URI = "https://issuer.example/keys"

AT_NAMES = fleet.istio(
    "ServiceEntry",
    "picks",
    {
        "hosts": ["picks.com"],
        "ports": [{"name": "tcp", "number": 91, "protocol": "TCP"}],
        "resolution": "DNS",
        "workloadSelector": {"labels": {"app": "web"}},
    },
)

POOL = (
    *SERVICES,
    fleet.kube_service("web", "elsewhere"),
    fleet.kube_service("headless", spec={"clusterIP": "None", "selector": {"app": "web"}}),
    *PODS,
    fleet.pod("web-1", "10.1.0.1", account="other"),
    SLICE,
    MORE,
    fleet.slice_of("headless", fleet.backend("10.1.0.2", "web-2")),
    SUBSETS,
    fleet.istio("DestinationRule", "web2", {"host": "web", "subsets": [{"name": "v1"}, {"name": "v2"}]}),
    route(),
    route("v2", "web2"),
    route(""),
    gateway(),
    gateway(81),
    fleet.istio("PeerAuthentication", "ns", {"mtls": {"mode": "STRICT"}}),
    fleet.istio("PeerAuthentication", "ns", {"mtls": {"mode": "DISABLE"}}),
    fleet.istio("Sidecar", "few", {"egress": [{"hosts": ["./shop.default.svc.cluster.local", "elsewhere/*"]}]}),
    fleet.istio("Sidecar", "few", {"egress": [{"hosts": ["./*", "~default/web.default.svc.cluster.local"]}]}),
    fleet.istio(
        "Sidecar",
        "web",
        {
            "workloadSelector": {"labels": {"app": "web"}},
            "egress": [{"hosts": ["*/*"], "port": {"number": 3128, "protocol": "HTTP_PROXY"}, "captureMode": "NONE"}],
            "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"},
        },
    ),
    fleet.istio(
        "ServiceEntry", "a", {"hosts": ["a.com"], "ports": [{"name": "http", "number": 80}], "resolution": "DNS"}
    ),
    fleet.istio(
        "ServiceEntry", "b", {"hosts": ["a.com"], "ports": [{"name": "tcp", "number": 90}], "resolution": "DNS"}
    ),
    fleet.istio(
        "ServiceEntry",
        "picks",
        {
            "hosts": ["picks.com"],
            "ports": [{"name": "http", "number": 80, "protocol": "HTTP"}],
            "resolution": "STATIC",
            "workloadSelector": {"labels": {"app": "web"}},
        },
    ),
    AT_NAMES,
    fleet.istio("WorkloadEntry", "vm", {"address": "10.2.0.1", "labels": {"app": "web"}, "serviceAccount": "vm"}),
    fleet.istio("WorkloadEntry", "vm", {"address": "vm.com", "labels": {"app": "web"}, "network": "n"}),
    fleet.istio("WorkloadEntry", "vm2", {"address": "10.2.0.2", "labels": {"app": "shop"}}),
    fleet.istio(
        "VirtualService",
        "root",
        {"hosts": ["shop"], "http": [{"match": [{"uri": {"prefix": "/a"}}], "delegate": {"name": "leaf"}}]},
    ),
    fleet.istio("VirtualService", "leaf", {"http": [{"route": [{"destination": {"host": "web"}}]}]}),
    fleet.istio("VirtualService", "leaf", {"http": [{"match": [{"uri": {"prefix": "/b"}}], "redirect": {"uri": "/"}}]}),
    fleet.istio("AuthorizationPolicy", "deny", {"action": "DENY", "rules": [{}]}),
    fleet.istio("AuthorizationPolicy", "deny", {"selector": {"matchLabels": {"app": "web"}}}, "istio-system"),
    fleet.istio(
        "AuthorizationPolicy", "ask", {"action": "CUSTOM", "provider": {"name": "asks"}, "rules": [{}]}, "istio-system"
    ),
    fleet.istio("RequestAuthentication", "a", {"jwtRules": [{"issuer": "a", "jwksUri": URI}]}),
    fleet.istio("RequestAuthentication", "a", {"jwtRules": [{"issuer": "b", "jwksUri": URI}]}, "istio-system"),
    Keys(text='{"keys": []}'),
    Keys(text='{"keys": [{}]}'),
    fleet.istio(
        "Sidecar",
        "binds",
        {
            "workloadSelector": {"labels": {"app": "web"}},
            "ingress": [
                {"port": {"number": 80, "protocol": "HTTP"}, "bind": "0.0.0.0", "captureMode": "NONE"},
                {"port": {"number": 80, "protocol": "HTTP"}, "bind": "10.0.0.1", "captureMode": "NONE"},
            ],
        },
    ),
    fleet.mesh_config("outboundTrafficPolicy: {mode: REGISTRY_ONLY}"),
    fleet.mesh_config(
        "extensionProviders: [{name: asks, envoyExtAuthzHttp: {service: shop.default.svc.cluster.local, port: 80}}]"
    ),
    fleet.mesh_config("trustDomain: my.org"),
    fleet.dump("v1", "Node", "node-1", "", labels={"topology.kubernetes.io/region": "r1"}),
)
TEXTS = tuple(text for text in POOL if isinstance(text, str))
PLACELESS = tuple(text for text in TEXTS if text != AT_NAMES)
"""Without the pods that stand in a cluster of DNS."""
PROXIES = (
    CLIENT,
    GATEWAY,
    fleet.proxy("web-1", ip="10.1.0.1"),
    fleet.proxy("x-1", "elsewhere"),
    fleet.proxy("dns-1", ip="10.1.0.8", DNS_CAPTURE="true"),
    fleet.proxy("vm-1", ip="10.1.0.9", LABELS={"app": "web"}, INTERCEPTION_MODE="NONE"),
)


def content(of: MeshContext) -> object:
    scopes = [context.scope(of, proxy) for proxy in PROXIES]
    return (
        of.diagnostics,
        {name: leaf.ports for name, leaf in of.endpoints.leaves.items()},
        [(s.settings, parts(s.outbound, s.settings), s.inbound and of_app(s.inbound, s.settings)) for s in scopes],
        [context.view(of, proxy) for proxy in PROXIES],
        of.model.tokens.wishes,
    )


def parts(of: OutboundScope, said: MeshSettings) -> object:
    return (of.key, of.clusters, compiled(of.listeners, said), of.routes, of.secrets, of.names)


def of_app(of: InboundScope, said: MeshSettings) -> object:
    return (of.clusters, compiled(of.listeners, said))


def compiled(listeners: Mapping[str, Listener], said: MeshSettings) -> object:
    """Listeners as Envoy gets them: policies in them are compared by identity, which two meshes have not in common."""
    return {name: listener.message(one, said) for name, one in listeners.items()}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(POOL), st.booleans()), max_size=30), st.integers(1, 5))
def test_a_mesh_that_followed_events_equals_one_built_from_what_is_there(
    events: list[tuple[str | Keys, bool]], batch: int
) -> None:
    found = fleet.Mesh()
    for place in range(0, len(events), batch):
        for event, there in events[place : place + batch]:
            if isinstance(event, Keys):
                found.store_keys(URI, event.text if there else None)
            else:
                found.store_only(event, there=there)
        found.follow()
        for proxy in PROXIES:
            found.scope(proxy)
    assert content(found.context) == content(found.fresh())


@settings(max_examples=25, deadline=None)
@given(st.sets(st.sampled_from(TEXTS)), st.randoms(use_true_random=False))
def test_the_order_of_events_does_not_matter(texts: set[str], chance: random.Random) -> None:
    latest = {fleet.parsed(text).key: text for text in sorted(texts)}
    shuffled = list(latest.values())
    chance.shuffle(shuffled)
    assert content(fleet.Mesh(*shuffled).context) == content(fleet.Mesh(*latest.values()).context)


def chains(scope: Scope) -> Iterator[Chain]:
    inbound = scope.inbound.listeners.values() if scope.inbound else ()
    for one in (*scope.outbound.listeners.values(), *inbound):
        yield from one.chains
        if one.default_chain is not None:
            yield one.default_chain


def references(scope: Scope) -> Iterator[str]:
    tables = [*scope.outbound.routes.values()]
    for chain in chains(scope):
        if chain.tcp is not None:
            yield from (share.cluster for share in chain.tcp.clusters)
        elif chain.http is not None:
            tables.append(chain.http.inline or scope.outbound.routes[chain.http.rds])
    for one in (each for table in tables for host in table.virtual_hosts for each in host.routes):
        yield from (share.destination.cluster for share in one.destinations if share.destination.known)


@settings(max_examples=25, deadline=None)
@given(st.sets(st.sampled_from(TEXTS)))
def test_every_name_that_is_referenced_exists(texts: set[str]) -> None:
    found = fleet.Mesh(*sorted(texts))
    for proxy in PROXIES:
        scope = found.scope(proxy)
        known = {*scope.outbound.clusters, *(scope.inbound.clusters if scope.inbound else ())}
        assert set(references(scope)) <= known


@settings(max_examples=25, deadline=None)
@given(st.sets(st.sampled_from(PLACELESS)))
def test_no_scope_holds_a_pods_name_or_address_except_headless_listeners(texts: set[str]) -> None:
    found = fleet.Mesh(*sorted(texts))
    scope = found.scope(fleet.proxy("web-1", ip="10.1.0.1"))
    text = repr((scope.inbound and (scope.inbound.clusters, scope.inbound.listeners), scope.outbound.clusters))
    assert "web-1" not in text
    assert "10.1.0.1" not in text
