"""Patches of the bootstrap: one message for a class of proxies, and who is told that nobody asks for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from envoy.config.bootstrap.v3 import bootstrap_pb2

from istiod.envoy import trial
from istiod.envoy.compiler import Compiler
from istiod.mesh import unasked_bootstraps
from tests.envoy import oracle, rich
from tests.envoy.patching import patch, plain
from tests.envoy.test_extensions import compiled
from tests.mesh import fleet
from tests.mesh.test_envoy_filters import envoy_filter
from wire import names


def merging(value: object, context: str = "ANY", operation: str = "MERGE") -> dict[str, Any]:
    return patch("BOOTSTRAP", operation, value, context=context)


def tagged(prefix: str) -> dict[str, Any]:
    return {"stats_config": {"stats_tags": [{"tag_name": prefix, "regex": "a"}]}, "stats_flush_interval": "1.5s"}


def made(*said: dict[str, Any], sidecar: bool = True) -> list[dict[str, Any]]:
    scope = rich.scope() if sidecar else replace(rich.scope(), inbound=None)
    several = list(compiled(Compiler(), scope, *said).of(names.BOOTSTRAP))
    assert all(one.name == names.BOOTSTRAP_PATCHES for one in several)
    return [plain(bootstrap_pb2.Bootstrap.FromString(trial.body(one))) for one in several]


def test_patches_are_one_message_in_their_order() -> None:
    later = {"stats_flush_interval": "2s", "stats_config": {"stats_tags": [{"tag_name": "b", "regex": "b"}]}}
    tags = [{"tagName": "a", "regex": "a"}, {"tagName": "b", "regex": "b"}]
    expected = [{"statsConfig": {"statsTags": tags}, "statsFlushInterval": "2s"}]
    assert made(merging(tagged("a")), merging(later)) == expected
    assert made(merging(tagged("a")), merging(None, operation="REMOVE"), merging(later, "SIDECAR_INBOUND")) == expected
    assert made(merging({"stats_flush_interval": "1s"}, "GATEWAY")) == []
    assert made(merging({"stats_flush_interval": "1s"}, "GATEWAY"), sidecar=False) == [{"statsFlushInterval": "1s"}]
    assert made(merging(None, operation="REMOVE")) == []


def test_its_origin_is_the_patch_or_the_last_object() -> None:
    (one,) = compiled(Compiler(), rich.scope(), merging(tagged("a"))).of(names.BOOTSTRAP)
    (two,) = compiled(Compiler(), rich.scope(), merging(tagged("a")), merging(tagged("b"))).of(names.BOOTSTRAP)
    assert [each.origin and each.origin.field for each in (one, two)] == ["spec.configPatches[0]", "spec.configPatches"]


def test_a_change_of_it_changes_nothing_else() -> None:
    compiler, scope = Compiler(), rich.scope()
    before, after = (compiled(compiler, scope, merging(tagged(name))) for name in "ab")
    expected = {names.BOOTSTRAP: frozenset({names.BOOTSTRAP_PATCHES})}
    assert compiler.changed(before, after) == oracle.changed(before, after) == expected


ASKS = {names.BOOTSTRAP_XDS_AGENT: "true"}


def unasked(*objects: str, **metadata: Any) -> list[tuple[str, str]]:
    mesh = fleet.Mesh(*objects)
    proxies = [fleet.proxy(LABELS={"app": "web"}, **metadata)]
    found = list(unasked_bootstraps.findings(mesh.context, proxies))
    assert all("BOOTSTRAP_XDS_AGENT" in one.message for one in found)
    return [(one.key.name if one.key else "", one.field) for one in found]


def test_patches_that_no_proxy_asks_for_are_told() -> None:
    both = merging({"stats_flush_interval": "1s"})
    one = envoy_filter("one", "default", {"applyTo": "CLUSTER", "patch": {"operation": "REMOVE"}}, both)
    told = [("one", "spec.configPatches[1].applyTo")]
    assert unasked(one) == told
    assert unasked(one, **ASKS) == []
    assert unasked(envoy_filter("one", "istio-system", both), **ASKS) == []
    assert unasked(envoy_filter("one", "elsewhere", both), **ASKS) != []
    other = {"workloadSelector": {"labels": {"app": "other"}}}
    assert unasked(envoy_filter("one", "default", both, **other), **ASKS) != []
    assert unasked(envoy_filter("one", "default", merging({}, "GATEWAY")), **ASKS) != []
    assert unasked(envoy_filter("one", "default", merging({}, "SIDECAR_INBOUND")), **ASKS) == []
    assert unasked(envoy_filter("one", "default", merging({}, "GATEWAY")), kind="router", **ASKS) == []
    assert unasked() == []
