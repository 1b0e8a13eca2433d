"""Providers of the mesh configuration that spans are sent to: what they say, and whether they are there."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import yaml

from istiod.features import Features
from istiod.mesh import tracers
from istiod.mesh.tracers import Endpoint, Kind, Sampler, Tracer
from tests.mesh import fleet

HOST = "zipkin.tracing.svc.cluster.local"
SERVICE = fleet.kube_service("zipkin", "tracing", ports=[{"name": "http", "port": 9411}])
TWIN = fleet.istio(
    "ServiceEntry", "twin", {"hosts": [HOST], "ports": [{"number": 9411, "name": "http", "protocol": "HTTP"}]}, "other"
)
AT = Endpoint(service=HOST, port=9411, host=HOST, namespace="tracing", cluster=f"outbound|9411||{HOST}")


def mesh(*objects: str, default: str = "", **providers: dict[str, Any]) -> fleet.Mesh:
    said = {"extensionProviders": [{"name": name, **what} for name, what in providers.items()]}
    if default:
        said |= {"defaultProviders": {"tracing": [default]}}  # type: ignore[dict-item]  # plain YAML
    return fleet.Mesh(fleet.mesh_config(yaml.safe_dump(said)), SERVICE, *objects)


def found(kind: str, **said: Any) -> Tracer:
    return mesh(one={kind: {"service": HOST, "port": 9411, **said}}).context.model.tracers.of("one")


def at(**more: Any) -> Endpoint:
    fields = {name: getattr(AT, name) for name in ("service", "port", "host", "namespace", "cluster")}
    return Endpoint(**{**fields, **more})


PLAIN = [{"name": "a", "value": "b"}]
HEADERS = [*PLAIN, {"name": "c", "envName": "D"}]
SENT = (("a", "b"),)


@pytest.mark.parametrize(
    ("kind", "said", "wanted"),
    [
        ("zipkin", {}, Tracer(name="one", kind=Kind.ZIPKIN, at=at(path="/api/v2/spans"))),
        (
            "zipkin",
            {
                "maxTagLength": 9,
                "enable64bitTraceId": True,
                "path": "/x",
                "traceContextOption": "USE_B3_WITH_W3C_PROPAGATION",
                "timeout": "2s",
                "headers": PLAIN,
            },
            Tracer(
                name="one",
                kind=Kind.ZIPKIN,
                at=at(path="/x", timeout=timedelta(seconds=2), headers=SENT),
                most=9,
                short_ids=True,
                w3c=True,
            ),
        ),
        ("datadog", {"maxTagLength": 9}, Tracer(name="one", kind=Kind.DATADOG, at=AT, most=9)),
        ("skywalking", {"accessToken": "t"}, Tracer(name="one", kind=Kind.SKYWALKING, at=AT, token="t")),
        ("opentelemetry", {"maxTagLength": 9}, Tracer(name="one", kind=Kind.OTLP_GRPC, at=AT, most=9)),
        (
            "opentelemetry",
            {"grpc": {"timeout": "2s", "initialMetadata": PLAIN}, "resourceDetectors": {"dynatrace": {}}},
            Tracer(
                name="one",
                kind=Kind.OTLP_GRPC,
                at=at(timeout=timedelta(seconds=2), headers=SENT),
                dynatrace=True,
            ),
        ),
        (
            "opentelemetry",
            {
                "http": {"path": "v1/traces", "timeout": "2s", "headers": PLAIN},
                "resourceDetectors": {"environment": {}},
                "dynatraceSampler": {"tenant": "t", "clusterId": -1, "rootSpansPerMinute": 3},
            },
            Tracer(
                name="one",
                kind=Kind.OTLP_HTTP,
                at=at(path="/v1/traces", timeout=timedelta(seconds=2), headers=SENT),
                sampler=Sampler(
                    tenant="t",
                    cluster_id=-1,
                    root_spans_per_minute=3,
                    api=at(path="/api/v2/samplingConfiguration", timeout=timedelta(seconds=2), headers=SENT),
                ),
            ),
        ),
        (
            "opentelemetry",
            {"dynatraceSampler": {"tenant": "t", "httpService": {"service": HOST, "port": 9411}}},
            Tracer(
                name="one",
                kind=Kind.OTLP_GRPC,
                at=AT,
                sampler=Sampler(tenant="t", cluster_id=0, root_spans_per_minute=0, api=at(path="/")),
            ),
        ),
    ],
)
def test_a_provider_is_what_it_says(kind: str, said: dict[str, Any], wanted: Tracer) -> None:
    assert found(kind, **said) == wanted


@pytest.mark.parametrize(
    ("kind", "said", "problem"),
    [
        ("zipkin", {"service": "", "port": 70_000}, "service must be given; port 70000 is not in the range 1 to 65535"),
        ("zipkin", {"service": "gone.example"}, "no service gone.example is in the mesh"),
        ("zipkin", {"port": 80}, f"{HOST} has no port 80"),
        ("zipkin", {"timeout": "0s"}, "timeout must be more than nothing"),
        ("zipkin", {"headers": [{"value": "x"}]}, "header '' has a name or a value that no header can have"),
        (
            "zipkin",
            {"headers": [{"name": "a b", "value": "x"}]},
            "header 'a b' has a name or a value that no header can have",
        ),
        (
            "zipkin",
            {"headers": [{"name": "a", "value": "\n"}]},
            "header 'a' has a name or a value that no header can have",
        ),
        ("zipkin", {"path": "/a b"}, "'/a b' is no path"),
        ("opentelemetry", {"dynatraceSampler": {}}, "dynatraceSampler needs httpService, or http beside it"),
        (
            "opentelemetry",
            {"dynatraceSampler": {"httpService": {"service": "gone.example", "port": 1}}},
            "no service gone.example is in the mesh",
        ),
        ("lightstep", {}, "Envoy has no tracer lightstep any more: use opentelemetry"),
    ],
)
def test_what_keeps_spans_from_a_provider_is_said(kind: str, said: dict[str, Any], problem: str) -> None:
    assert found(kind, **said).problem == problem


def test_a_header_may_stand_in_a_variable_of_istiod() -> None:
    """``envName``: so a key need not stand in the mesh configuration."""

    def known(**environment: str) -> Tracer:
        return of(environment)

    def of(environment: dict[str, str] | None) -> Tracer:
        said = [{"name": "one", "zipkin": {"service": HOST, "port": 9411, "headers": HEADERS}}]
        chosen = Features(environment=environment)
        text = fleet.mesh_config(yaml.safe_dump({"extensionProviders": said}))
        return fleet.Mesh(text, SERVICE, features=chosen).context.model.tracers.of("one")

    assert (known(D="secret").at.headers, known(D="secret").problem) == ((("a", "b"), ("c", "secret")), "")
    wanted = "istiod has no variable D with a value that header 'c' can have"
    assert {known().problem, known(D="").problem, known(D="x\ny").problem} == {wanted}
    assert "secret" not in repr(Features(environment={"D": "secret"}))
    offline = of(None)  # istioctl does not know what istiod has
    assert (offline.at.headers[1], offline.problem) == (("c", "${D}"), "")


def test_a_host_of_two_namespaces_needs_one_of_them() -> None:
    def named(service: str) -> Tracer:
        return mesh(TWIN, a={"zipkin": {"service": service, "port": 9411}}).context.model.tracers.of("a")

    assert named(HOST).problem == f"{HOST} is in namespaces other, tracing; write NAMESPACE/{HOST}"
    assert named(f"other/{HOST}").at.namespace == "other"


def test_of_one_name_twice_neither_can_be_used() -> None:
    said = {"extensionProviders": [{"name": "a", "zipkin": {"service": HOST, "port": 9411}}] * 2}
    one = fleet.Mesh(fleet.mesh_config(yaml.safe_dump(said)), SERVICE).context.model.tracers.of("a")
    assert one.problem == "the mesh configuration has two providers of this name"


def test_others_are_no_tracers() -> None:
    one = mesh(one={"prometheus": {}}).context.model.tracers.of("one")
    assert one.problem == "the mesh configuration has no provider 'one' that spans can be sent to"
    assert tracers.NOBODY.of("x").problem


def test_providers_are_the_same_objects_until_they_change() -> None:
    one = mesh(a={"zipkin": {"service": HOST, "port": 9411}})
    before = one.context.model.tracers
    other = fleet.kube_service("other", ports=[{"name": "http", "port": 80}])
    assert one.apply(other).model.tracers is before
    assert one.remove(SERVICE).model.tracers.of("a").problem == f"no service {HOST} is in the mesh"


def test_what_is_wrong_is_told_of_the_mesh_configuration() -> None:
    wrong = mesh(
        default="b", a={"zipkin": {"service": HOST, "port": 0}}, b={"datadog": {"service": "gone.example", "port": 1}}
    )
    assert [(one.code.name, one.field, one.message) for one in wrong.context.diagnostics] == [
        (
            "UNTRACED",
            "data.mesh.defaultProviders.tracing[0]",
            "no service gone.example is in the mesh; nothing is traced",
        ),
        ("UNTRACED", "data.mesh.extensionProviders[a]", "port 0 is not in the range 1 to 65535"),
    ]
