"""Tracing in connection managers, as Envoy is told."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.extensions.request_id.uuid.v3 import uuid_pb2
from google.protobuf import json_format

from crds import span_tags
from crds.span_tags import Source, Tag
from crds.tracing_provider import CustomTag
from istiod.envoy import cluster, listener, tracing
from istiod.features import Features
from istiod.mesh.node_settings import NodeSettings
from istiod.mesh.scope import Chain, Direction, Http, Listener
from istiod.mesh.settings import MeshSettings
from istiod.mesh.tracers import Endpoint, Kind, Sampler, Tracer
from istiod.mesh.tracing import ProxyTracing, Side, Tracing
from tests.envoy import made
from tests.envoy.test_real_envoy import BOOTSTRAP, verdict
from wire import names

AT = Endpoint(service="z", port=1, host="z.example", cluster="outbound|1||z.example")
ISTIO = ("istio.canonical_revision", "istio.canonical_service", "istio.cluster_id", "istio.mesh_id", "istio.namespace")
SECOND = timedelta(seconds=1)
GRPC = {"cluster_name": AT.cluster, "authority": "z.example"}
LITERAL = Tag(name="literal", source=Source.LITERAL, value="v")
ALL = (
    LITERAL,
    Tag(name="environment", source=Source.ENVIRONMENT, value="A", default="d"),
    Tag(name="header", source=Source.HEADER, value="x-a", default="d"),
    Tag(name="formatter", source=Source.FORMATTER, value="%REQ(:path)%"),
)
ABOUT = {"START_TIME": "%s", "CEL": "request.path", "FILTER_STATE": "a:PLAIN", "METADATA": "ROUTE:a:b", "PATH": "WQ"}
TRIED = tuple(
    f"istio.authorization.dry_run.{action}_policy.{part}" for action in ("allow", "deny") for part in ("name", "result")
)
RULE = ("istio.config", "istio.field")


def of(tracer: Tracer | None, direction: Direction = Direction.OUTBOUND, **side: Any) -> Listener:
    """A listener whose client and server side are traced alike."""
    both = Side(tracer=tracer, **side)
    return like(NodeSettings(traced=Tracing(client=both, server=both)), direction)


def like(own: NodeSettings, direction: Direction = Direction.OUTBOUND) -> Listener:
    http = Http(stat_prefix="a", rds="80")
    return Listener(
        name="l", address="0.0.0.0", port=80, direction=direction, own=own, chains=(Chain(name="c", http=http),)
    )


def manager(one: Listener, settings: MeshSettings | None = None) -> Any:
    message = listener.message(one, settings or MeshSettings())
    return made.manager(message.filter_chains[0])


def tags(one: Listener, settings: MeshSettings | None = None) -> list[str]:
    return [tag.tag for tag in manager(one, settings).tracing.custom_tags]


def sampled(one: Listener, settings: MeshSettings | None = None) -> float:
    found: float = manager(one, settings).tracing.random_sampling.value
    return found


def zipkin(**more: Any) -> Tracer:
    return Tracer(name="z", kind=Kind.ZIPKIN, at=replace(AT, path="/spans"), **more)


OTLP = Tracer(name="o", kind=Kind.OTLP_GRPC, at=AT)
SAMPLER = Sampler(tenant="t", cluster_id=1, root_spans_per_minute=2, api=replace(AT, cluster="outbound|2||d.example"))


# --- what the proxy itself is told


def test_where_nobody_says_anything_only_the_decision_is_noted() -> None:
    assert made.shown(manager(like(NodeSettings())).tracing) == {
        "client_sampling": {"value": 100.0},
        "random_sampling": {"value": 1.0},
        "overall_sampling": {"value": 100.0},
    }
    assert not manager(like(NodeSettings()), MeshSettings(enable_tracing=False)).HasField("tracing")


def test_a_proxy_wins_over_the_mesh() -> None:
    mesh = MeshSettings(tracing=ProxyTracing(sampling=5.0, most=7, tags=(LITERAL,)), features=Features(log_rules=False))
    found = manager(like(NodeSettings(tracing=ProxyTracing(sampling=6.0))), mesh).tracing
    assert (found.random_sampling.value, found.max_path_tag_length.value) == (6.0, 7)
    assert [tag.tag for tag in found.custom_tags] == sorted((*ISTIO, *TRIED, "literal"))
    assert sampled(like(NodeSettings()), mesh) == 5.0


def test_istios_tags_can_be_left_out() -> None:
    own = NodeSettings(tracing=ProxyTracing(istio_tags=False, tags=(LITERAL,)))
    assert tags(like(own)) == ["literal"]


# --- what Telemetry says


def test_each_side_is_told_its_own() -> None:
    traced = Tracing(client=Side(tracer=zipkin(), sampling=10.0), server=Side(tracer=zipkin(), sampling=20.0))
    own = NodeSettings(traced=traced)
    assert sampled(like(own, Direction.OUTBOUND)) == 10.0
    assert sampled(like(own, Direction.GATEWAY)) == 10.0
    assert sampled(like(own, Direction.INBOUND)) == 20.0


def test_without_a_tracer_nothing_is_decided() -> None:
    assert not manager(of(None)).HasField("tracing")
    assert "clusters" not in listener.refs(of(None))


def test_sampling_and_the_rest_fall_back_to_the_proxys() -> None:
    own = NodeSettings(
        tracing=ProxyTracing(sampling=5.0, most=9, tags=(LITERAL,)),
        traced=Tracing(client=Side(tracer=OTLP), server=Side()),
    )
    found = manager(like(own)).tracing
    assert (found.random_sampling.value, found.max_path_tag_length.value) == (5.0, 9)
    assert "literal" in tags(like(own))
    assert sampled(of(OTLP)) == 1.0
    assert sampled(of(OTLP, sampling=0.0)) == 0.0


def test_a_sampler_of_the_provider_sees_everything() -> None:
    assert sampled(of(replace(OTLP, sampler=SAMPLER), sampling=1.0)) == 100.0


def test_paths_are_as_long_as_the_provider_says() -> None:
    assert manager(of(zipkin(most=5))).tracing.max_path_tag_length.value == 5
    assert not manager(of(zipkin())).tracing.HasField("max_path_tag_length")


def test_gateways_and_skywalking_have_a_span_for_each_upstream() -> None:
    skywalking = Tracer(name="s", kind=Kind.SKYWALKING, at=AT)
    assert manager(of(zipkin(), Direction.GATEWAY)).tracing.spawn_upstream_span.value
    assert manager(of(skywalking)).tracing.spawn_upstream_span.value
    assert not manager(of(zipkin())).tracing.HasField("spawn_upstream_span")


def test_a_request_id_need_not_decide() -> None:
    def decides(one: Listener) -> bool:
        found = uuid_pb2.UuidRequestIdConfig()
        manager(one).request_id_extension.typed_config.Unpack(found)
        return bool(found.use_request_id_for_trace_sampling.value)

    assert decides(of(OTLP))
    assert not decides(of(OTLP, by_request_id=False))


def test_context_need_not_go_on() -> None:
    assert manager(of(OTLP, propagate=False)).tracing.SerializeToString().endswith(b"\x68\x01")
    assert not manager(of(OTLP)).tracing.SerializeToString().endswith(b"\x68\x01")


def test_tags_are_telemetrys_and_istios() -> None:
    assert tags(of(OTLP, tags=())) == sorted((*ISTIO, *TRIED, *RULE))
    assert tags(of(OTLP, tags=ALL, istio_tags=False)) == ["environment", "formatter", "header", "literal"]
    found = {tag.tag: made.shown(tag) for tag in manager(of(OTLP, tags=ALL, istio_tags=False)).tracing.custom_tags}
    assert found == {
        "environment": {"tag": "environment", "environment": {"name": "A", "default_value": "d"}},
        "formatter": {"tag": "formatter", "value": "%REQ(:path)%"},
        "header": {"tag": "header", "request_header": {"name": "x-a", "default_value": "d"}},
        "literal": {"tag": "literal", "literal": {"value": "v"}},
    }


def test_a_proxys_own_tags_are_variables_so_that_all_share_them() -> None:
    (one,) = (tag for tag in manager(of(OTLP)).tracing.custom_tags if tag.tag == "istio.canonical_service")
    assert made.shown(one)["environment"] == {"name": "OWN_SERVICE", "default_value": "unknown"}


# --- providers


def test_a_listener_waits_for_the_clusters_of_its_tracer() -> None:
    refs = listener.refs(of(replace(OTLP, sampler=SAMPLER)))
    assert refs[names.CLUSTER] == {AT.cluster, "outbound|2||d.example"}
    assert tracing.clusters(NodeSettings(), Direction.OUTBOUND) == ()


def config(tracer: Tracer) -> dict[str, Any]:
    found = manager(of(tracer)).tracing.provider
    return {"name": found.name, **made.shown(found)["typed_config"]}


URI = {"cluster": AT.cluster, "uri": "http://z.example/spans", "timeout": "5s"}
KINDS = [
    (
        zipkin(),
        {"collector_service": {"http_uri": URI}, "trace_id_128bit": True, "shared_span_context": False},
    ),
    (
        replace(zipkin(short_ids=True, w3c=True), at=replace(AT, path="/spans", timeout=SECOND, headers=(("a", "b"),))),
        {
            "collector_service": {
                "http_uri": {**URI, "timeout": "1s"},
                "request_headers_to_add": [
                    {"header": {"key": "a", "value": "b"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
                ],
            },
            "trace_context_option": "USE_B3_WITH_W3C_PROPAGATION",
        },
    ),
    (
        Tracer(name="d", kind=Kind.DATADOG, at=AT),
        {"collector_cluster": AT.cluster, "collector_hostname": "z.example", "service_name": "istio-proxy"},
    ),
    (
        Tracer(name="s", kind=Kind.SKYWALKING, at=AT, token="t"),
        {"grpc_service": {"envoy_grpc": GRPC}, "client_config": {"backend_token": "t"}},
    ),
    (Tracer(name="s", kind=Kind.SKYWALKING, at=AT), {"grpc_service": {"envoy_grpc": GRPC}}),
    (OTLP, {"grpc_service": {"envoy_grpc": GRPC}}),
    (
        replace(OTLP, at=replace(AT, timeout=SECOND, headers=(("a", "b"),)), dynatrace=True),
        {
            "grpc_service": {
                "envoy_grpc": GRPC,
                "timeout": "1s",
                "initial_metadata": [{"key": "a", "value": "b"}],
            }
        },
    ),
    (
        replace(OTLP, kind=Kind.OTLP_HTTP, at=replace(AT, path="/spans"), sampler=SAMPLER),
        {"http_service": {"http_uri": URI}},
    ),
]


@pytest.mark.parametrize(("tracer", "wanted"), KINDS)
def test_a_tracer_is_what_its_provider_says(tracer: Tracer, wanted: dict[str, Any]) -> None:
    found = config(tracer)
    assert made.picked(found, *wanted) == wanted


def test_opentelemetry_has_the_name_from_the_environment() -> None:
    def detectors(tracer: Tracer) -> list[str]:
        return [one["name"].rpartition(".")[2] for one in config(tracer)["resource_detectors"]]

    assert detectors(OTLP) == ["environment"]
    assert detectors(replace(OTLP, dynatrace=True)) == ["environment", "dynatrace"]


@pytest.mark.envoy
def test_envoy_takes_every_tracer_and_every_operator(tmp_path: Path) -> None:
    alone = [f"%{name}%" for name in sorted(span_tags.ALONE)]
    told = [f"%{name}({ABOUT.get(name, 'a')})%" for name in sorted(span_tags.TOLD)]
    every = (*ALL, *(Tag(name=text, source=Source.FORMATTER, value=text) for text in (*alone, *told)))
    assert not list(span_tags.problems({text: of_format(text) for text in (*alone, *told)}))
    found = json_format.ParseDict(BOOTSTRAP, bootstrap_pb2.Bootstrap())
    for name in (AT.cluster, SAMPLER.api.cluster):
        made_of = cluster.message(made.cluster(), MeshSettings())
        made_of.name = made_of.eds_cluster_config.service_name = name
        found.static_resources.clusters.append(made_of)
    for at, (tracer, _) in enumerate(KINDS):
        one = of(tracer, tags=every if at == 0 else ALL, propagate=False, by_request_id=False)
        found.static_resources.listeners.append(
            listener.message(replace(one, name=str(at), port=80 + at), MeshSettings())
        )
    code, words = verdict(found, tmp_path)
    assert code == 0, words


@pytest.mark.envoy
@pytest.mark.parametrize("text", ["50%", "%NONSENSE%", "%REQ%"])
def test_envoy_refuses_what_is_left_out(tmp_path: Path, text: str) -> None:
    found = json_format.ParseDict(BOOTSTRAP, bootstrap_pb2.Bootstrap())
    wrong = (Tag(name="wrong", source=Source.FORMATTER, value=text),)
    one = like(NodeSettings(tracing=ProxyTracing(tags=wrong)))
    found.static_resources.listeners.append(listener.message(one, MeshSettings()))
    assert list(span_tags.problems({"wrong": of_format(text)}))
    assert verdict(found, tmp_path)[0] != 0


def of_format(text: str) -> CustomTag:
    return CustomTag.model_validate({"formatter": {"value": text}})
