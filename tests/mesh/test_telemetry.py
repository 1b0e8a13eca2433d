"""Which Telemetry objects hold for a workload, and what changes touch (Q3)."""

from __future__ import annotations

from typing import Any

from istiod.mesh.recall import Recall
from istiod.mesh.telemetry import NOTHING, Rules
from tests.mesh import fleet

ROOT = "istio-system"
RECALL = Recall()


def telemetry(called: str, namespace: str = "default", born: str = "", app: str = "", **spec: Any) -> str:
    """An object that names a tracing provider after itself, so that it can be told in what it comes to."""
    more = {"creationTimestamp": born} if born else {}
    if app:
        spec["selector"] = {"matchLabels": {"app": app}}
    spec.setdefault("tracing", [{"providers": [{"name": called}]}])
    return fleet.dump(
        "telemetry.istio.io/v1",
        "Telemetry",
        called,
        namespace,
        spec=spec,
        **more,
    )


def holding(mesh: fleet.Mesh, namespace: str = "default", **labels: str) -> list[str]:
    return names(rules(mesh, namespace, **labels))


def rules(mesh: fleet.Mesh, namespace: str = "default", **labels: str) -> Rules:
    return mesh.context.model.telemetry.of_workload(namespace, frozenset(labels.items()), RECALL)


def names(found: Rules) -> list[str]:
    return [one.providers[0].name for one in found.tracing]


def test_the_meshs_then_the_namespaces_then_the_workloads_own() -> None:
    mesh = fleet.Mesh(
        telemetry("own", app="web"), telemetry("home"), telemetry("mesh", ROOT), telemetry("gw", ROOT, app="gw")
    )

    assert holding(mesh, app="web") == ["mesh", "home", "own"]
    assert holding(mesh, app="other") == ["mesh", "home"]
    assert holding(mesh, "elsewhere", app="web") == ["mesh"]
    assert holding(mesh, ROOT, app="gw") == ["mesh", "gw"]  # a selector of the root namespace is for workloads there
    assert rules(fleet.Mesh()) is NOTHING


def test_the_oldest_of_each_holds_and_the_others_are_told_so() -> None:
    mesh = fleet.Mesh(
        telemetry("b", born="2024-01-02T00:00:00Z"),
        telemetry("c", born="2024-01-01T00:00:00Z"),
        telemetry("x", born="2024-01-02T00:00:00Z", app="web"),
        telemetry("y", born="2024-01-01T00:00:00Z", app="web"),
    )

    assert holding(mesh, app="web") == ["c", "y"]
    assert ("DUPLICATE_HOST", "b", "") in mesh.told()


def test_metrics_logs_and_tracing_are_joined_each_by_itself() -> None:
    mesh = fleet.Mesh(
        telemetry("mesh", ROOT, metrics=[{"overrides": [{"disabled": True}]}], tracing=[]),
        telemetry("home", accessLogging=[{"disabled": True}, {"providers": [{"name": "a"}]}]),
        telemetry("own", app="web", accessLogging=[{"disabled": False}], metrics=[{}]),
    )
    found = rules(mesh, app="web")

    assert names(found) == ["home", "own"]
    assert [len(one.overrides) for one in found.metrics] == [1, 0]
    assert [[one.disabled for one in some] for some in found.access_logging] == [[True, None], [False]]


def test_objects_for_resources_of_the_gateway_api_hold_for_nobody() -> None:
    target = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "g"}
    mesh = fleet.Mesh(telemetry("one", targetRef=target), telemetry("some", targetRefs=[target]), telemetry("home"))

    assert holding(mesh) == ["home"]
    told = [(name, field) for code, name, field in mesh.told() if code == "INEFFECTIVE"]
    assert told == [("one", "spec.targetRef"), ("some", "spec.targetRefs")]


def test_what_did_not_change_stays_the_same_object() -> None:
    mesh = fleet.Mesh(telemetry("home"), telemetry("own", app="web"))
    index, found = mesh.context.model.telemetry, rules(mesh, app="web")

    mesh.apply(fleet.kube_service("web"), fleet.mesh_config("{accessLogFile: /dev/stdout}"))
    assert mesh.context.model.telemetry is index
    mesh.apply(telemetry("elsewhere", "other"))
    assert mesh.context.model.telemetry.inputs("default") == index.inputs("default")
    assert rules(mesh, app="web") is found
    mesh.apply(telemetry("own", app="api"))
    assert holding(mesh, app="web") == ["home"]
    mesh.remove(telemetry("home"))
    assert holding(mesh, app="api") == ["own"]
    mesh.apply(fleet.mesh_config("{rootNamespace: other}"))
    assert holding(mesh, app="api") == ["elsewhere", "own"]
