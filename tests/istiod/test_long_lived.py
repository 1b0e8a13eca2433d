"""A process that lived through changes gives every proxy what one that has just started would give it."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crds.key import ConfigKey
from crds.meta import Object
from istiod.config.resource import ResourceSet
from istiod.config.store import ConfigStore
from istiod.envoy.compiler import Compiler
from istiod.mesh import context, memo, recall
from istiod.mesh.context import MeshContext
from tests.mesh import fleet, test_routing_properties, world

Held = dict[tuple[str, str], bytes]

EVERYWHERE = ("default", "other", "istio-system")
HIDDEN = {"annotations": {"networking.istio.io/exportTo": "."}}
HEADLESS = {"clusterIP": "None", "selector": {"app": "web"}}
PROXY_PORT = {"number": 3128, "protocol": "HTTP_PROXY", "name": "p"}
HTTP_80 = {"number": 80, "protocol": "HTTP", "name": "p"}
HTTP_8080 = {"number": 8080, "protocol": "HTTP", "name": "p"}
NAMED = [{"name": "http", "port": 80}]
DNS = {"hosts": ["x.example"], "ports": [HTTP_80], "resolution": "DNS"}
ALLOCATED = {"addresses": [{"value": "240.240.0.1", "host": "x.example"}]}
SELECTED = {"workloadSelector": {"labels": {"app": "web"}}}
BASE = (
    fleet.kube_service("web"),
    fleet.kube_service("a", "other"),
    fleet.pod("web-1", "10.1.0.1"),
    fleet.slice_of("web", fleet.backend("10.1.0.1", "web-1")),
    fleet.istio("VirtualService", "d", {"hosts": ["web"], "http": [{"route": [{"destination": {"host": "d"}}]}]}),
    fleet.istio("DestinationRule", "web", {"host": "web", "subsets": [{"name": "v1", "labels": {"version": "v1"}}]}),
)
"""What every process starts with, so that few events are enough to meet."""
POOL = (
    *BASE,
    fleet.kube_service("a", "other", **HIDDEN),
    fleet.kube_service("web", spec={"internalTrafficPolicy": "Local"}),
    *(fleet.kube_service("web", namespace, spec=HEADLESS) for namespace in ("default", "other")),
    *(
        fleet.dump("v1", "Service", "d", spec={"type": "ExternalName", "externalName": host, "ports": NAMED})
        for host in ("a.other.svc.cluster.local", "none.example", "gone.example")
    ),
    fleet.istio("ServiceEntry", "x", DNS, status=ALLOCATED),
    fleet.istio("ServiceEntry", "x", {**DNS, "exportTo": ["."]}, "other"),
    fleet.pod("web-1", "10.1.0.1", account="other", labels={"version": "v1"}),
    fleet.slice_of("web", fleet.backend("10.1.0.1", "web-1"), fleet.backend("10.1.0.2")),
    fleet.dump("v1", "Node", "node-1", "", labels={"topology.kubernetes.io/region": "r1"}),
    *(
        fleet.istio("PeerAuthentication", "p", {"mtls": {"mode": mode}}, namespace)
        for namespace in EVERYWHERE
        for mode in ("STRICT", "DISABLE")
    ),
    fleet.istio("Sidecar", "few", {"egress": [{"hosts": ["./*", "*/x.example"]}], **SELECTED}),
    fleet.istio("Sidecar", "few", {"egress": [{"hosts": ["*/*", "~other/a.other.svc.cluster.local"]}]}, "other"),
    fleet.istio("Sidecar", "two", {"egress": [{"hosts": ["default/*"], "port": HTTP_80}, {"hosts": ["./*"]}]}, "other"),
    fleet.istio("Sidecar", "all", {"egress": [{"hosts": ["*/*"], "port": PROXY_PORT}]}, "istio-system"),
    fleet.istio("Sidecar", "all", {"outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}}, "istio-system"),
    fleet.istio("Sidecar", "in", {"ingress": [{"port": HTTP_8080, "defaultEndpoint": "127.0.0.1:8080"}], **SELECTED}),
    *(
        fleet.mesh_config(text)
        for text in (
            "outboundTrafficPolicy: {mode: REGISTRY_ONLY}",
            "rootNamespace: other",
            "enableAutoMtls: false",
            "defaultServiceExportTo: ['.']",
            "defaultVirtualServiceExportTo: ['.']",
            "defaultDestinationRuleExportTo: ['.']",
            "defaultHttpRetryPolicy: {attempts: 7}",
        )
    ),
)
PROXIES = (
    fleet.proxy(),
    fleet.proxy("web-1", ip="10.1.0.1"),
    fleet.proxy("web-1", "other", LABELS={"app": "web"}),
    fleet.proxy("x-1", "other", HTTP10="1"),
    fleet.proxy("x-2", "other", INTERCEPTION_MODE="NONE"),
    fleet.proxy("x-1", "third", HTTP_PROXY_PORT="15007"),
    fleet.proxy("x-2", "third", DNS_CAPTURE="true", LABELS={"istio-locality": "r1"}),
    fleet.proxy("x-1", "fourth", ip="fd00::1"),
    fleet.proxy("x-1", "istio-system"),
    fleet.proxy("gw-1", "istio-system", "router"),
    fleet.proxy("gw-1", "other", "router"),
)


class Process:
    """What a control plane remembers, without I/O. ``held`` is what proxies have by the names that they were told."""

    def __init__(self, store: ConfigStore) -> None:
        self._store = store
        self.changed: set[ConfigKey] = set()
        self._context: MeshContext | None = None
        self._compiler = Compiler()
        self._targets: dict[int, ResourceSet] = {}
        self.held: dict[int, Held] = {}

    def follow(self, places: Iterable[int]) -> None:
        """The context follows the store; the proxies at these places of PROXIES are told."""
        mesh = self._context = context.build(self._store.snapshot(), self._context, frozenset(self.changed))
        self.changed.clear()
        for place in places:
            proxy = PROXIES[place]
            view = context.view(mesh, proxy)
            self._tell(place, self._compiler.compile(context.scope(mesh, proxy), mesh.endpoints, view))

    def _tell(self, place: int, after: ResourceSet) -> None:
        before = self._targets.get(place)
        self._targets[place] = after
        if before is None:
            self.held[place] = everything(after)
            return
        held = self.held[place]
        for type_url, names in self._compiler.changed(before, after).items():
            for name in names:
                held.pop((type_url, name), None)
                if (found := after.get(type_url, name)) is not None:
                    held[type_url, name] = found.delta_frame
        assert held == everything(after)


def everything(resources: ResourceSet) -> Held:
    return {(type_url, one.name): one.delta_frame for type_url in resources.layers for one in resources.of(type_url)}


@st.composite
def objects(draw: st.DrawFn) -> Object:
    """One object; often of a name that another one had before."""
    rules, pool = test_routing_properties, st.sampled_from(POOL)
    several = (rules.services(), rules.entries(), rules.virtual_services(), rules.destination_rules())
    text = draw(st.one_of(pool, pool, pool, *several, rules.gateways(), rules.aliases()))
    (found,) = world.objects(text)
    return found


EVENTS = st.lists(st.tuples(objects(), st.booleans()), max_size=6)
EVERY_PLACE = range(len(PROXIES))
STEPS = st.lists(st.tuples(EVENTS, st.sets(st.sampled_from(EVERY_PLACE))), min_size=1, max_size=4)
Steps = list[tuple[list[tuple[Object, bool]], set[int]]]


def forgetful(patch: pytest.MonkeyPatch) -> None:
    """What may be forgotten is forgotten at once."""
    patch.setattr(memo, "_SLACK", 0)
    patch.setattr(memo, "_MOST_PROXIES", 2)
    patch.setattr(recall, "SLACK", 0)


def change(store: ConfigStore, item: Object, *, there: bool) -> None:
    if there:
        store.apply(item)
    else:
        store.remove(item.key)


def started(store: ConfigStore) -> dict[int, Held]:
    """What each proxy gets of a process that starts now and for it alone, and makes nothing for several namespaces."""
    found: dict[int, Held] = {}
    with pytest.MonkeyPatch.context() as patch:
        test_routing_properties.each_for_itself(patch)
        for place in EVERY_PLACE:
            process = Process(store)
            process.follow((place,))
            found |= process.held
    return found


@pytest.mark.parametrize("text", POOL)
def test_a_change_and_its_end_reach_everybody(text: str) -> None:
    store = ConfigStore()
    process = Process(store)
    store.listen(process.changed.add)
    (item,) = world.objects(text)
    for one in world.objects(*BASE):
        store.apply(one)
    process.follow(EVERY_PLACE)
    for there in (True, False):
        change(store, item, there=there)
        process.follow(EVERY_PLACE)
        assert process.held == started(store)


@pytest.mark.parametrize("kind", ["as it is", "forgetful"])
@settings(max_examples=25, deadline=None)
@given(st.lists(objects(), max_size=12), STEPS)
def test_what_a_process_remembers_changes_no_byte(kind: str, first: list[Object], steps: Steps) -> None:
    store = ConfigStore()
    process = Process(store)
    store.listen(process.changed.add)
    begin = [(item, True) for item in (*world.objects(*BASE), *first)]
    with pytest.MonkeyPatch.context() as patch:
        if kind == "forgetful":
            forgetful(patch)
        for events, places in ((begin, EVERY_PLACE), *steps, ([], EVERY_PLACE)):
            for item, there in events:
                change(store, item, there=there)
            process.follow(places)
    assert process.held == started(store)
