"""Who logs what, and where to: what Telemetry and the mesh's providers come to (Q6, Q7)."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from istiod.mesh.access_logs import AccessLogs, Log
from istiod.mesh.loggers import Format, Kind, Logger
from tests.mesh import fleet
from tests.mesh.test_telemetry import ROOT, telemetry

PROXY = fleet.proxy("web-1", ip="10.1.0.1")
ROUTER = fleet.proxy("gw-1", kind="router", ip="10.1.0.3", LABELS={"app": "gw"})
WORLD = (
    fleet.kube_service("web"),
    fleet.pod("web-1", "10.1.0.1"),
    fleet.kube_service("logs", "logging", ports=[{"name": "grpc", "port": 4317}]),
)
FILES = [{"name": name, "envoyFileAccessLog": {"path": f"/{name}"}} for name in ("a", "b", "c")]
HOST = "logs.logging.svc.cluster.local"
GRPC = {"name": "service", "envoyHttpAls": {"service": HOST, "port": 4317}}


def mesh(*entries: tuple[str, list[Any]], default: tuple[str, ...] = (), providers: Any = FILES, **more: Any) -> Any:
    """A mesh with these access logs, each of a namespace; those of ``web`` are of one workload."""
    said = {"extensionProviders": providers, "defaultProviders": {"accessLogging": list(default)}, **more}
    objects = [
        telemetry(f"t{index}", "default" if home == "web" else home, app="web" if home == "web" else "", **spec(some))
        for index, (home, some) in enumerate(entries)
    ]
    return fleet.Mesh(*WORLD, fleet.mesh_config(json.dumps(said)), *objects)


def spec(entries: list[Any]) -> dict[str, Any]:
    return {"accessLogging": [yaml.safe_load(one) for one in entries], "tracing": []}


def logs(found: fleet.Mesh) -> AccessLogs | None:
    scope = found.scope(PROXY)
    assert scope.inbound is not None
    (own,) = {one.own for one in (*scope.outbound.listeners.values(), *scope.inbound.listeners.values())}
    return own.logs


def sides(found: fleet.Mesh) -> tuple[list[str], list[str]]:
    said = logs(found)
    assert said is not None
    return names(said.client), names(said.server)


def names(some: tuple[Log, ...]) -> list[str]:
    return [f"{one.to.name} {one.expression}".strip() for one in some]


def test_without_a_word_the_meshs_file_holds() -> None:
    assert logs(mesh()) is None
    assert logs(mesh(("web", []))) is None


@pytest.mark.parametrize(
    ("entries", "client", "server"),
    [
        ([("web", ["{}"])], "d", "d"),
        ([("web", ["{disabled: true}"])], "", ""),
        ([("web", ["{disabled: true, match: {mode: SERVER}}"])], "d", ""),
        ([("web", ["{filter: {expression: 'response.code > 1'}}"])], "d response.code > 1", "d response.code > 1"),
        ([("web", ["{providers: [{name: a}], match: {mode: CLIENT}}"])], "a", "d"),
        ([(ROOT, ["{providers: [{name: a}, {name: b}]}"]), ("web", ["{disabled: true}"])], "", ""),
        ([(ROOT, ["{providers: [{name: a}, {name: b}]}"]), ("default", ["{providers: [{name: b}]}"])], "b", "b"),
        ([(ROOT, ["{providers: [{name: a}]}", "{providers: [{name: b}], match: {mode: CLIENT}}"])], "a,b", "a"),
        ([("default", ["{providers: [{name: a}]}"]), ("web", ["{filter: {expression: 'true'}}"])], "a true", "a true"),
        ([("web", ["{providers: [{name: a}, {name: b}]}", "{providers: [{name: a}], disabled: true}"])], "b", "b"),
        ([("default", ["{disabled: true}"]), ("web", ["{}"])], "d", "d"),
    ],
)
def test_each_objects_word_stands_above_the_wider_ones(
    entries: list[tuple[str, list[str]]], client: str, server: str
) -> None:
    providers = [*FILES, {"name": "d", "envoyFileAccessLog": {}}]
    found = sides(mesh(*entries, default=("d",), providers=providers))
    assert found == (client.split(",") if client else [], server.split(",") if server else [])


def test_providers_are_found_in_upper_and_lower_case_and_envoy_is_always_there() -> None:
    found = logs(mesh((ROOT, ["{providers: [{name: A}, {name: envoy}]}"])))
    assert found is not None
    assert [(one.to.path, one.to.format.of_mesh) for one in found.client] == [("/a", False), ("/dev/stdout", True)]
    own = [{"name": "envoy", "envoyFileAccessLog": {"path": "/x", "omitEmptyValues": True}}]
    found = logs(mesh((ROOT, ["{providers: [{name: envoy}]}"]), providers=own))
    assert found is not None
    assert found.client[0].to == Logger(name="envoy", path="/x", format=Format(omit_empty=True))


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ({"envoyFileAccessLog": {}}, Logger(name="x", path="/dev/stdout")),
        ({"envoyFileAccessLog": {"logFormat": {"text": "t"}}}, Logger(name="x", format=Format(text="t"))),
        (
            {"envoyFileAccessLog": {"logFormat": {"labels": {"b": 1, "a": "c"}}}},
            Logger(name="x", format=Format(fields='{"a": "c", "b": 1}', json=True)),
        ),
        ({"envoyFileAccessLog": {"logFormat": {"labels": {}}}}, Logger(name="x", format=Format(json=True))),
    ],
)
def test_files(said: dict[str, Any], wanted: Logger) -> None:
    found = logs(mesh((ROOT, ["{providers: [{name: x}]}"]), providers=[{"name": "x", **said}]))
    assert found is not None
    assert found.client == (Log(to=wanted),)
    assert (found.services, found.clusters) == ((), frozenset())


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ({"envoyHttpAls": {"additionalRequestHeadersToLog": ["a"], "filterStateObjectsToLog": ["f"]}}, Kind.HTTP),
        ({"envoyTcpAls": {"filterStateObjectsToLog": ["f"]}}, Kind.TCP),
        ({"envoyOtelAls": {"logFormat": {"text": "t", "labels": {"a": "b"}}}}, Kind.OTLP),
    ],
)
@pytest.mark.parametrize("service", [HOST, f"logging/{HOST}"])
def test_services_have_clusters_also_where_nobody_sees_them(said: dict[str, Any], kind: Kind, service: str) -> None:
    (name,) = said
    provider = {"name": "x", name: {**said[name], "service": service, "port": 4317, "logName": "l"}}
    sidecar = fleet.istio("Sidecar", "default", {"egress": [{"hosts": ["./*"]}]})
    world = mesh((ROOT, ["{providers: [{name: x}]}"]), providers=[provider])
    world.apply(sidecar)
    found = logs(world)
    assert found is not None
    to = found.client[0].to
    assert (to.kind, to.cluster, to.host, to.log_name) == (kind, f"outbound|4317||{HOST}", HOST, "l")
    assert to.cluster in world.scope(PROXY).outbound.clusters
    assert to.cluster in world.scope(ROUTER).outbound.clusters
    assert to.filter_state == (() if kind is Kind.OTLP else ("f",))
    world.remove(fleet.kube_service("logs", "logging"))
    assert sides(world) == ([], [])
    assert to.cluster not in world.scope(PROXY).outbound.clusters


def test_a_service_that_is_seen_is_not_given_twice() -> None:
    world = mesh((ROOT, ["{providers: [{name: service}]}"]), providers=[GRPC])
    assert f"outbound|4317||{HOST}" in world.scope(PROXY).outbound.clusters


def test_proxies_of_whom_the_same_is_said_share_their_listeners() -> None:
    world = mesh((ROOT, ["{providers: [{name: a}]}"]), ("default", ["{}"]), ("other", ["{}"]))
    world.apply(fleet.pod("web-2", "10.1.0.2"), fleet.pod("client-1", "10.1.9.9", "other"))
    one, same, other = (
        world.scope(proxy)
        for proxy in (PROXY, fleet.proxy("web-2", ip="10.1.0.2"), fleet.proxy("client-1", "other", ip="10.1.9.9"))
    )
    assert one.outbound is same.outbound
    shared = one.outbound.listeners.keys() & other.outbound.listeners.keys()
    assert shared
    assert all(one.outbound.listeners[name] is other.outbound.listeners[name] for name in shared)
    before = one.outbound
    world.apply(telemetry("t2", "other", **spec(["{disabled: true}"])))
    assert world.scope(PROXY).outbound is before
    assert world.scope(fleet.proxy("client-1", "other", ip="10.1.9.9")).outbound.listeners != other.outbound.listeners


def test_what_nothing_can_be_sent_to_is_told() -> None:
    bad: list[dict[str, Any]] = [
        {"name": "far", "envoyTcpAls": {"service": "gone.example", "port": 1}},
        {"name": "port", "envoyOtelAls": {"service": HOST}},
        {"name": "header", "envoyHttpAls": {"service": HOST, "port": 4317, "additionalRequestHeadersToLog": ["a b"]}},
        {"name": "log", "envoyHttpAls": {"service": HOST, "port": 4317, "logName": "a" * 300}},
        {"name": "deep", "envoyOtelAls": {"service": HOST, "port": 4317, "logFormat": {"labels": {"a": {}}}}},
        {"name": "zip", "zipkin": {"service": HOST, "port": 4317}},
    ]
    refs = "[{name: far}, {name: port}, {name: header}, {name: log}, {name: deep}, {name: zip}, {name: nil}, {name: a}]"
    expression = "filter: {expression: 'upstream_peer.name == request.path'}"
    world = mesh(
        (ROOT, [f"{{providers: {refs}, {expression}}}", "{providers: [{name: nil}], disabled: true}"]),
        default=("prometheus",),
        providers=[*FILES, *bad],
    )
    assert sides(world)[0] == ["a upstream_peer.name == request.path"]
    told = [one for one in world.told() if one[0] in ("UNKNOWN_LOG_PROVIDER", "UNKNOWN_ATTRIBUTE")]
    fields = [f"spec.accessLogging[0].providers[{number}].name" for number in range(7)]
    assert sorted(told) == sorted(
        [
            ("UNKNOWN_LOG_PROVIDER", "istio", "data.mesh.defaultProviders.accessLogging[0]"),
            *(("UNKNOWN_LOG_PROVIDER", "t0", field) for field in fields),
            ("UNKNOWN_ATTRIBUTE", "t0", "spec.accessLogging[0].filter.expression"),
        ]
    )
