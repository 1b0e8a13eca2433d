"""Configurations of filters by discovery: who gets them, which listeners ask, what is told where a half is missing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import extension_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import json_format

from crds.diagnostic import Code
from istiod.config.resource import ResourceSet
from istiod.envoy import blame, extensions, trial
from istiod.envoy.compiler import Compiler
from istiod.mesh.envoy_filters import PatchSet
from tests.envoy import made, oracle, rich
from tests.envoy.patching import LUA, MANAGER, TYPED_STRUCT, URL, index, patch
from tests.mesh import fleet
from tests.mesh.test_envoy_filters import envoy_filter
from wire import names

EXT_AUTHZ = URL + "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz"
UPSTREAM = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
ADS = {"ads": {}, "resource_api_version": "V3"}
INBOUND, OUTBOUND, GATEWAY = "SIDECAR_INBOUND", "SIDECAR_OUTBOUND", "GATEWAY"
SERVED = names.EXTENSION


def discovery(types: tuple[str, ...] = (LUA,), **more: object) -> dict[str, Any]:
    return {"config_source": ADS, "type_urls": list(types), **more}


def asking(name: str = "own", context: str = "ANY", said: object = None) -> dict[str, Any]:
    place = {"filterChain": {"filter": {"name": MANAGER}}}
    value = {"name": name, "config_discovery": discovery() if said is None else said}
    return patch("HTTP_FILTER", "INSERT_BEFORE", value, context=context, listener=place)


def adding(name: str = "own", context: str = "ANY", code: str = "-- one", operation: str = "ADD") -> dict[str, Any]:
    config = {"@type": LUA, "default_source_code": {"inline_string": code}}
    return patch("EXTENSION_CONFIG", operation, {"name": name, "typed_config": config}, context=context)


def compiled(compiler: Compiler, scope: Any, *said: dict[str, Any]) -> ResourceSet:
    (one,) = index(*said).all()
    return compiler.compile(replace(scope, patches=PatchSet(patches=one.patches)), made.endpoints(), made.VIEW)


def test_a_sidecar_gets_configurations_for_both_of_its_sides_once() -> None:
    several = (adding("any"), adding("in", INBOUND), adding("out", OUTBOUND), adding("edge", GATEWAY))
    found = compiled(Compiler(), rich.scope(), *several, adding("removed", operation="REMOVE"))
    assert sorted(one.name for one in found.of(SERVED)) == ["any", "in", "out"]
    edge = compiled(Compiler(), replace(rich.scope(), inbound=None), *several)
    assert sorted(one.name for one in edge.of(SERVED)) == ["any", "edge"]


def test_of_one_name_the_first_serves_and_nameless_ones_do_not() -> None:
    said = (adding(code="-- first", context=INBOUND), adding(code="-- second"), adding(""))
    (found,) = compiled(Compiler(), rich.scope(), *said).of(SERVED)
    message = extension_pb2.TypedExtensionConfig.FromString(trial.body(found))
    assert (found.name, message.name, b"first" in message.typed_config.value) == ("own", "own", True)
    assert found.origin is not None
    (told,) = blame.findings(found, "no", ["web-1.default"])
    assert (told.code, told.field, told.key) == (Code.REJECTED_BY_ENVOY, "spec.configPatches[0]", found.origin.key)


def test_a_change_of_a_configuration_changes_nothing_else() -> None:
    compiler, scope = Compiler(), rich.scope()
    before = compiled(compiler, scope, asking(), adding(code="-- one"))
    after = compiled(compiler, scope, asking(), adding(code="-- two"))
    assert compiler.changed(before, after) == oracle.changed(before, after) == {SERVED: frozenset({"own"})}
    gone = compiled(compiler, scope, asking())
    assert compiler.changed(after, gone) == oracle.changed(after, gone) == {SERVED: frozenset({"own"})}
    plain = compiler.compile(scope, made.endpoints(), made.VIEW)
    assert SERVED not in plain.layers


def test_a_configuration_waits_for_clusters_that_patches_add() -> None:
    cluster = patch("CLUSTER", "ADD", {"name": "added", "type": "STATIC"})
    found = compiled(Compiler(), rich.scope(), cluster, adding(code="-- added"), adding("other"))
    refs = {one.name: one.refs.get(names.CLUSTER, frozenset()) for one in found.of(SERVED)}
    assert refs == {"own": {"added"}, "other": frozenset()}


def test_a_configuration_waits_for_clusters_of_the_mesh_that_it_names() -> None:
    name = made.cluster_name("reviews")
    code = f'h:httpCall("{name}", {{}}) h:httpCall("outbound_.80_.v1_.a.b", {{}}) -- inbound|8080||\nx'
    service = {"grpc_service": {"envoy_grpc": {"cluster_name": name}}}
    asks = patch("HTTP_FILTER", "INSERT_FIRST", {"name": "asks", "typed_config": {"@type": EXT_AUTHZ, **service}})
    found = compiled(Compiler(), rich.scope(), adding(code=code), asks)
    (own,) = found.of(SERVED)
    assert own.refs[names.CLUSTER] == {name, "outbound_.80_.v1_.a.b", "inbound|8080||"}
    listener = found.get(names.LISTENER, "0.0.0.0_9080")
    assert listener is not None
    assert name in listener.refs[names.CLUSTER], "a filter that a patch puts in as well"


def test_clusters_name_what_their_filters_ask_for_over_ads() -> None:
    value = {"name": "own", "config_discovery": discovery()}
    options = {UPSTREAM: {"@type": URL + UPSTREAM, "http_filters": [value]}}
    merged = patch("CLUSTER", "MERGE", {"typed_extension_protocol_options": options}, context=OUTBOUND)
    added = patch("CLUSTER", "ADD", {"name": "new", "filters": [{**value, "name": "bytes"}]})
    found = compiled(Compiler(), rich.scope(), merged, added, adding())
    asked = {one.name: one.refs.get(SERVED, frozenset()) for one in found.of(names.CLUSTER)}
    assert asked.pop("new") == {"bytes"}
    assert asked[made.cluster_name("reviews")] == {"own"}
    plain = compiled(Compiler(), rich.scope(), adding())
    assert plain.named(SERVED, names.LISTENER, names.CLUSTER) == frozenset()
    assert found.named(SERVED, names.LISTENER, names.CLUSTER) == {"own", "bytes"}


def test_listeners_name_what_their_filters_ask_for_over_ads() -> None:
    network = patch("NETWORK_FILTER", "INSERT_FIRST", {"name": "tcp", "config_discovery": discovery()})
    listening = patch("LISTENER_FILTER", "INSERT_FIRST", {"name": "early", "config_discovery": discovery()})
    elsewhere = asking("far", said={"config_source": {"path_config_source": {"path": "/a"}}, "type_urls": [LUA]})
    added = patch("LISTENER", "ADD", {"name": "new", "listener_filters": [listening["patch"]["value"]]})
    found = compiled(Compiler(), rich.scope(), asking(context=OUTBOUND), network, listening, elsewhere, added)
    asked = {one.name: one.refs.get(SERVED, frozenset()) for one in found.of(names.LISTENER)}
    assert asked["0.0.0.0_9080"] == {"own", "tcp", "early"}
    assert asked["virtualInbound"] == {"tcp", "early"}
    assert asked["new"] == {"early"}


def test_the_type_of_a_struct_is_what_it_stands_for() -> None:
    for kind in (TYPED_STRUCT, URL + "xds.type.v3.TypedStruct"):
        config = {"@type": kind, "type_url": URL + "a.b", "value": {}}
        said = patch("EXTENSION_CONFIG", "ADD", {"name": "own", "typed_config": config})
        (found,) = compiled(Compiler(), rich.scope(), said).of(SERVED)
        packed = extension_pb2.TypedExtensionConfig.FromString(trial.body(found)).typed_config
        assert extensions.type_name(packed) == "a.b"
    (framed,) = discovery_pb2.DiscoveryResponse.FromString(found.any_frame).resources
    assert framed.type_url == SERVED
    assert list(extensions.asked(listener_pb2.Listener())) == []


def told(*objects: str) -> list[tuple[str, str, str]]:
    found = extensions.findings(fleet.Mesh(*objects).context.envoy_filters)
    return [(one.key.name if one.key else "", one.field, one.message) for one in found]


FILTER, CONFIG = "spec.configPatches[0].patch.value", "spec.configPatches[0]"


def test_halves_that_find_each_other_are_not_spoken_of() -> None:
    assert told(envoy_filter("both", "default", asking(), adding())) == []
    camel = asking(said={"configSource": ADS, "typeUrls": [LUA]})
    camel["patch"]["value"] = {"name": "own", "configDiscovery": camel["patch"]["value"]["config_discovery"]}
    assert told(envoy_filter("a", "istio-system", camel), envoy_filter("b", "default", adding())) == []
    assert told(envoy_filter("a", "default", asking("far", said={"config_source": {"self": {}}}))) == []
    assert told(envoy_filter("a", "default", asking(context=INBOUND), adding(context=OUTBOUND))) == []


@pytest.mark.parametrize(
    ("mine", "other"),
    [
        (envoy_filter("a", "default", asking()), envoy_filter("b", "elsewhere", adding())),
        (
            envoy_filter("a", "default", asking(), workloadSelector={"labels": {"app": "a", "x": "y"}}),
            envoy_filter("b", "istio-system", adding(), workloadSelector={"labels": {"app": "b"}}),
        ),
        (envoy_filter("a", "default", asking(context=INBOUND)), envoy_filter("b", "default", adding(context=GATEWAY))),
        (envoy_filter("a", "default", asking()), envoy_filter("b", "default", adding("another"))),
        (envoy_filter("a", "default", asking()), envoy_filter("b", "default", adding(operation="REMOVE"))),
    ],
)
def test_a_filter_that_no_configuration_is_for_is_told(mine: str, other: str) -> None:
    first = told(mine, other)[0]
    assert first[:2] == ("a", FILTER)
    assert "'own': each proxy waits for its initial_fetch_timeout (15s by default), and then answers 500" in first[2]
    assert all("nobody is sent it" in message for name, _, message in told(mine, other) if name == "b")


def test_a_default_is_told_of() -> None:
    said = discovery(default_config={"@type": LUA})
    ((_, _, message),) = told(envoy_filter("a", "default", asking(said=said)))
    assert message.endswith("and has its default_config then")


def test_a_configuration_that_nobody_asks_for_is_told() -> None:
    assert told(envoy_filter("a", "default", adding())) == [
        ("a", CONFIG, "no EnvoyFilter for the same proxies has a filter that asks for 'own': nobody is sent it")
    ]


def test_what_is_no_configuration_counts_as_none() -> None:
    bad = patch("EXTENSION_CONFIG", "ADD", {"name": "own", "typed_config": 5})
    ((name, field, _),) = told(envoy_filter("a", "default", asking(), bad))
    assert (name, field) == ("a", FILTER)


def test_a_type_that_the_filter_does_not_take_is_told() -> None:
    ((name, field, message),) = told(envoy_filter("a", "default", asking(said=discovery((URL + "a.b",))), adding()))
    assert (name, field) == ("a", FILTER)
    assert "do not have envoy.extensions.filters.http.lua.v3.Lua, as EnvoyFilter/default/a gives it" in message


def test_the_second_of_a_name_is_told() -> None:
    mine = envoy_filter("late", "default", adding(), asking(), priority=1)
    ((name, field, message),) = told(mine, envoy_filter("early", "default", adding()))
    assert (name, field) == ("late", CONFIG)
    assert message.startswith("EnvoyFilter/default/early adds an extension configuration 'own', too")


def test_options_of_other_protocols_and_sources_than_the_stream_are_left_alone() -> None:
    asks = {"name": "own", "config_discovery": discovery()}
    elsewhere = {
        "name": "file",
        "config_discovery": discovery() | {"config_source": {"path_config_source": {"path": "/x"}}},
    }
    said = {
        "filters": [asks, elsewhere],
        "typed_extension_protocol_options": {
            "other": {"@type": TYPED_STRUCT, "type_url": URL + "a.b"},
            UPSTREAM: {"@type": URL + UPSTREAM, "http_filters": [elsewhere, asks]},
        },
    }
    cluster = json_format.ParseDict(said, cluster_pb2.Cluster())
    assert list(extensions.asked(cluster)) == ["own", "own"]
    extensions.forget(cluster)
    assert list(extensions.asked(cluster)) == []
    kept = json_format.MessageToDict(cluster, preserving_proto_field_name=True)
    assert kept["filters"] == [elsewhere]
    assert kept["typed_extension_protocol_options"] == {
        "other": said["typed_extension_protocol_options"]["other"],
        UPSTREAM: {"@type": URL + UPSTREAM, "http_filters": [elsewhere]},
    }
