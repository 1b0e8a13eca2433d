"""What an EnvoyFilter changes, what of it Envoy is shown, and which patch its words are about."""

from __future__ import annotations

from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2

from istiod.config.resource import Resource
from istiod.config.store import ConfigStore
from istiod.envoy import trial
from istiod.envoy.trial import Trial
from istiod.explain import workloads
from istiod.gate import candidates, stage
from istiod.mesh import context as mesh
from istiod.mesh.envoy_filters import PatchSet
from tests.gate.filters import BAD, EXTENSIONS, GOOD, http_filter, item, patch, pod, put, service
from tests.mesh import fleet
from wire import names

PIPE = {"pipe": {"path": "@here"}}
ADDED = {"name": "added", "type": "STATIC", "connect_timeout": "1s"}


def shown(resources: list[Resource], *stubs: str) -> bootstrap_pb2.Bootstrap:
    return bootstrap_pb2.Bootstrap.FromString(trial.bootstrap([(one, trial.body(one)) for one in resources], stubs))


def staged(*patches: object) -> tuple[Trial, ...]:
    given = item(*patches)
    return candidates.trials(*stage.meshed(given), given)


def after(one: Trial) -> list[Resource]:
    return [each.after for each in trial.changes(one, one.without, one.whole)]


def test_only_what_the_patches_speak_of_and_change_is_asked_about() -> None:
    (sidecar, gateway) = sorted(staged(http_filter(GOOD, "SIDECAR_INBOUND")), key=lambda one: one.scope.inbound is None)
    assert [one.name for one in after(sidecar)] == ["virtualInbound"]
    assert after(gateway) == []
    tables = staged(patch("VIRTUAL_HOST", {"request_headers_to_add": [{"header": {"key": "x", "value": "1"}}]}))
    assert {one.type_url for each in tables for one in after(each)} == {names.ROUTE, names.LISTENER}


def test_added_clusters_are_asked_about_once_and_removed_ones_never() -> None:
    (one, *_) = staged(patch("CLUSTER", ADDED, "ADD"))
    (made,) = (each for each in trial.changes(one, one.without, one.whole) if each.after.name == "added")
    assert made.before is None
    assert list(trial.changes(one, one.whole, one.whole)) == []
    (one, *_) = staged(patch("CLUSTER", None, "REMOVE"))
    assert after(one) == []


def test_proxies_of_a_name_stand_side_by_side() -> None:
    store = ConfigStore()
    put(store, service("web", "10.96.0.1"), pod("web", "10.244.0.1"), pod("api", "10.244.0.2"))
    context = mesh.build(store.snapshot())
    found = candidates.trials(context, (), item(http_filter(GOOD, "SIDECAR_INBOUND")))
    resources = [each for one in found for each in after(one)]
    made = shown(resources, "outbound|80||web.demo.svc.cluster.local").static_resources
    assert [one.name for one in made.listeners] == ["virtualInbound", "virtualInbound (2)"]
    ports = {one.address.socket_address.port_value for one in made.listeners}
    assert len(ports) == 2
    assert {one.name for one in made.clusters} >= {names.CLUSTER_XDS, "outbound|80||web.demo.svc.cluster.local"}


def test_clusters_and_tables_are_shown_too() -> None:
    header = {"request_headers_to_add": [{"header": {"key": "x", "value": "1"}}]}
    sizes = {"per_connection_buffer_limit_bytes": 5}
    (one, *_) = staged(patch("VIRTUAL_HOST", header), patch("CLUSTER", sizes), patch("LISTENER", {"address": PIPE}))
    resources = after(one)
    made = shown(resources).static_resources
    assert {each.name for each in made.clusters} >= {each.name for each in resources if each.type_url == names.CLUSTER}
    held = [each.name for each in made.listeners if each.name.startswith("routes ")]
    assert sorted(held) == sorted(f"routes {each.name}" for each in resources if each.type_url == names.ROUTE) != []
    assert trial.needed(one, resources)


def test_clusters_that_are_named_are_needed() -> None:
    outbound = "outbound|80||service.demo.svc.cluster.local"
    config = {**GOOD, "stat_prefix": outbound}
    (one, *_) = staged(
        http_filter(config), patch("CLUSTER", ADDED, "ADD"), http_filter({**GOOD, "stat_prefix": "added"})
    )
    assert {outbound, "added"} <= trial.needed(one, [])
    resources = after(one)
    assert trial.needed(one, resources) >= frozenset().union(*(each.refs.get(names.CLUSTER, ()) for each in resources))


def test_a_cluster_that_a_gateway_will_have_for_the_object_is_there() -> None:
    """Nothing routes there yet: without it Envoy would refuse a tracer, say, that asks for its cluster."""
    store = ConfigStore()
    put(store, service("web", "10.96.0.1"))
    context = mesh.build(store.snapshot())
    limits = "outbound|80||web.demo.svc.cluster.local"
    gateway = fleet.proxy("gw-1", "demo", "router")
    (one,) = candidates.trials(context, [gateway], item(http_filter({**GOOD, "stat_prefix": limits}, "GATEWAY")))
    assert limits in trial.needed(one, [])
    assert limits not in mesh.scope(context, gateway).outbound.clusters
    unknown = item(http_filter({**GOOD, "stat_prefix": "outbound|80||none.demo.svc.cluster.local"}, "GATEWAY"))
    (one,) = candidates.trials(context, [gateway], unknown)
    assert trial.needed(one, []) == {"own"}


def test_words_point_at_the_patch_that_they_quote() -> None:
    several = (http_filter({**BAD, "stat_prefix": "first"}), http_filter({**BAD, "stat_prefix": "second"}))
    (one, *_) = staged(*several)
    patches = one.alone.patches
    assert trial.guilty(patches, 'stat_prefix: "second"') == "spec.configPatches[1]"
    assert trial.guilty(patches, "nothing of it") == ""
    assert trial.guilty(patches, 'filter "own"') == ""
    assert trial.guilty(patches[:1], "nothing of it") == "spec.configPatches[0]"


def test_few_classes_stand_for_many_proxies() -> None:
    store = ConfigStore()
    spaces = [f"space-{i}" for i in range(6)]
    put(store, *(pod(f"p{i}", f"10.244.{n}.{i + 1}", space) for n, space in enumerate(spaces) for i in range(5)))
    context = mesh.build(store.snapshot())
    proxies = [workloads.proxy(context, one) for one in context.backends.pods.values()]
    found = candidates.trials(context, proxies, item(http_filter(GOOD), space="istio-system"))
    assert len(found) <= candidates.MOST
    assert {one.scope.outbound.key.namespace for one in found} == set(spaces)
    near = candidates.trials(context, proxies, item(http_filter(GOOD), space="space-1"))
    assert {one.scope.outbound.key.namespace for one in near} == {"space-1"}


def test_an_object_is_tried_in_place_of_its_stored_version() -> None:
    store = ConfigStore()
    put(store, pod("web", "10.244.0.1"))
    stored, neighbour = item(http_filter(BAD)), item(http_filter(GOOD), name="other")
    store.apply(stored)
    store.apply(neighbour)
    context = mesh.build(store.snapshot())
    (one,) = candidates.trials(context, (), item(http_filter(GOOD)))
    assert {each.key.name for each in one.without.patches} == {"other"}
    assert len(one.whole.patches) == 2
    elsewhere = item(http_filter(GOOD), workloadSelector={"labels": {"app": "api"}})
    assert candidates.trials(context, (), elsewhere) == ()
    old = http_filter(GOOD)
    old["match"]["proxy"] = {"proxyVersion": "^1\\.0\\."}
    assert candidates.trials(context, (), item(old)) == ()
    assert one.alone != PatchSet(patches=())


def test_of_neighbours_that_are_left_out_only_the_names_stay() -> None:
    store = ConfigStore()
    put(store, pod("web", "10.244.0.1"))
    store.apply(neighbour := item(patch("CLUSTER", ADDED, "ADD"), name="other"))
    context = mesh.build(store.snapshot())
    (one,) = candidates.trials(context, (), item(http_filter({**GOOD, "stat_prefix": "added"})))
    less = one.leaving({neighbour.key})
    assert {each.key.name for each in less.whole.patches} == {"own"}
    assert less.without.patches == ()
    assert less.left == one.without.patches
    assert "added" in trial.needed(less, [])
    assert one.leaving(set()) is one


NETWORK = EXTENSIONS + "filters.network."
LISTENER = {"@type": EXTENSIONS + "filters.listener.original_dst.v3.OriginalDst"}
ROUTER = {"@type": EXTENSIONS + "filters.http.router.v3.Router"}
ECHO, RBAC = {"@type": NETWORK + "echo.v3.Echo"}, {"@type": NETWORK + "rbac.v3.RBAC"}


def extension(config: object, name: str = "own") -> object:
    return patch("EXTENSION_CONFIG", {"name": name, "typed_config": config}, "ADD")


def test_configurations_of_filters_are_shown_where_their_type_belongs() -> None:
    kinds = {"http": GOOD, "last": ROUTER, "tcp": RBAC, "end": ECHO, "early": LISTENER}
    (one, *_) = staged(*(extension(config, name) for name, config in kinds.items()))
    made = {each.name: each for each in shown(after(one)).static_resources.listeners}
    assert sorted(made) == sorted(f"extension {name}" for name in kinds)
    chains = {name: made[f"extension {name}"].filter_chains[0].filters for name in kinds}
    assert {name: [each.name for each in chains[name]] for name in ("tcp", "end", "early")} == {
        "tcp": ["tcp", "end"],
        "end": ["end"],
        "early": ["end"],
    }
    assert [each.name for each in made["extension early"].listener_filters] == ["early"]
    managers = {name: http_connection_manager_pb2.HttpConnectionManager() for name in ("http", "last")}
    assert all(chains[name][0].typed_config.Unpack(manager) for name, manager in managers.items())
    assert [each.name for each in managers["http"].http_filters] == ["http", "router"]
    assert [each.name for each in managers["last"].http_filters] == ["last"]


UPSTREAM = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
ASKING = {"name": "own", "config_discovery": {"config_source": {"ads": {}}, "type_urls": [GOOD["@type"]]}}


def test_filters_of_a_cluster_that_ask_for_their_configuration_are_not_shown() -> None:
    """Envoy crashes where a cluster of its bootstrap has one; clusters by discovery may."""
    codec = {"name": "codec", "typed_config": {"@type": EXTENSIONS + "filters.http.upstream_codec.v3.UpstreamCodec"}}
    options = {"@type": f"type.googleapis.com/{UPSTREAM}", "http_filters": [ASKING, codec]}
    value = {"typed_extension_protocol_options": {UPSTREAM: options}, "filters": [ASKING, {"name": "stays"}]}
    (one, *_) = staged(patch("CLUSTER", {**value, "name": "added"}, "ADD"))
    (made,) = (each for each in shown(after(one)).static_resources.clusters if each.name == "added")
    assert [each.name for each in made.filters] == ["stays"]
    found = http_protocol_options_pb2.HttpProtocolOptions()
    assert made.typed_extension_protocol_options[UPSTREAM].Unpack(found)
    assert [each.name for each in found.http_filters] == ["codec"]


def test_a_configuration_that_stays_the_same_is_not_asked_about() -> None:
    (one, *_) = staged(extension(GOOD))
    (new,) = trial.changes(one, one.without, one.whole)
    assert (new.before, new.after.name) == (None, "own")
    assert list(trial.changes(one, one.whole, one.whole)) == []
    (two, *_) = staged(extension(BAD))
    (change,) = trial.changes(one, two.whole, one.whole)
    assert change.before is not None
    assert change.before.version != change.after.version


def test_a_bootstrap_is_shown_with_its_patches() -> None:
    theirs = {"clusters": [{"name": "theirs", "type": "STATIC"}, {"name": "zipkin", "type": "STATIC"}]}
    given = patch("BOOTSTRAP", {"stats_flush_interval": "7s", "static_resources": theirs})
    found = staged(given)
    resources = [each for one in found for each in after(one)]
    assert {one.type_url for one in resources} == {names.BOOTSTRAP}
    made = shown(resources)
    assert made.stats_flush_interval.seconds == 7
    several = [each.name for each in made.static_resources.clusters]
    assert sorted({"theirs", "zipkin", names.CLUSTER_XDS}) == sorted(
        {each for each in several if several.count(each) == 1} & {"theirs", "zipkin", names.CLUSTER_XDS}
    )
