"""Who is traced: what the mesh configuration and proxies say, and what their scopes have for it."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from crds.span_tags import Source, Tag
from istiod.mesh import context, tracing
from istiod.mesh.tracing import NOTHING, ProxyTracing, Tracing
from tests.mesh import fleet
from tests.mesh.test_tracers import HOST, SERVICE, mesh

TAG = Tag(name="a", source=Source.LITERAL, value="b")


def own(text: str) -> ProxyTracing:
    """What a proxy says by its annotation."""
    return tracing.of_metadata({"tracing": yaml.safe_load(text)})


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("{}", NOTHING),
        ("{sampling: 0}", NOTHING),
        ("{sampling: 12.5}", ProxyTracing(sampling=12.5)),
        ("{sampling: 300}", ProxyTracing(sampling=1.0)),
        ("{maxPathTagLength: 9, enableIstioTags: false}", ProxyTracing(most=9, istio_tags=False)),
        ("{customTags: {a: {literal: {value: b}}}}", ProxyTracing(tags=(TAG,))),
        ("{zipkin: {address: 'z:1'}}", ProxyTracing(collector=True)),
        ("{datadog: {address: 'z:1'}}", ProxyTracing(collector=True)),
        ("{zipkin: {}}", NOTHING),
        ("{sampling: much}", NOTHING),
    ],
)
def test_a_proxys_words(text: str, wanted: ProxyTracing) -> None:
    assert own(text) == wanted


@pytest.mark.parametrize("said", [None, "x", {}, {"tracing": "x"}])
def test_what_cannot_be_read_is_as_good_as_nothing(said: Any) -> None:
    assert tracing.of_metadata(said) == NOTHING


def test_a_proxys_word_wins_field_by_field() -> None:
    said = ProxyTracing(sampling=1.0, most=2, tags=(TAG,), istio_tags=False, collector=True)
    assert tracing.joined(said, NOTHING) is said
    assert tracing.joined(NOTHING, NOTHING) is NOTHING
    assert tracing.joined(said, ProxyTracing(sampling=5.0)) == ProxyTracing(
        sampling=5.0, most=2, tags=(TAG,), istio_tags=False, collector=True
    )
    assert tracing.joined(NOTHING, said) == said


def test_the_mesh_says_it_for_all() -> None:
    text = "{defaultConfig: {tracing: {sampling: 5}}, extensionProviders: [{name: z, zipkin: {service: a, port: 1}}]}"
    settings = fleet.Mesh(fleet.mesh_config(text)).context.model.settings
    assert settings.tracing == ProxyTracing(sampling=5.0)
    assert [one.name for one in settings.tracers] == ["z"]


def test_bad_tags_and_second_providers_are_told() -> None:
    text = "{defaultConfig: {tracing: {customTags: {a: {}}}}, defaultProviders: {tracing: [a, b]}}"
    found = fleet.Mesh(fleet.mesh_config(text)).context.diagnostics
    assert [(one.code.name, one.field.removeprefix("data.mesh.")) for one in found] == [
        ("BAD_VALUE", "defaultConfig.tracing.customTags[a]"),
        ("NOT_SUPPORTED", "defaultProviders.tracing"),
        ("UNTRACED", "defaultProviders.tracing[0]"),
    ]


ZIPKIN = {"zipkin": {"service": HOST, "port": 9411}}
CLUSTER = f"outbound|9411||{HOST}"
NARROW = fleet.istio("Sidecar", "default", {"egress": [{"hosts": ["./*"]}]})
APP = fleet.kube_service("web")


def test_a_workload_has_the_cluster_of_its_collector_though_it_sees_no_such_service() -> None:
    def of(default: str) -> Any:
        return context.scope(mesh(NARROW, APP, default=default, z=ZIPKIN).context, fleet.proxy()).outbound

    assert CLUSTER not in of("").clusters
    traced = of("z")
    assert CLUSTER in traced.clusters
    assert "9411" not in traced.routes
    assert traced.key.own.traced.client.tracer.name == "z"


def test_a_gateway_has_it_though_no_route_leads_there() -> None:
    front = fleet.istio(
        "Gateway",
        "front",
        {
            "selector": {"app": "gw"},
            "servers": [{"port": {"number": 80, "name": "a", "protocol": "HTTP"}, "hosts": ["*"]}],
        },
    )
    gateway = fleet.proxy("gw-1", kind="router", LABELS={"app": "gw"})
    assert CLUSTER not in context.scope(mesh(front, z=ZIPKIN).context, gateway).outbound.clusters
    assert CLUSTER in context.scope(mesh(front, default="z", z=ZIPKIN).context, gateway).outbound.clusters


def test_proxies_share_what_they_get_and_all_that_follows() -> None:
    one = mesh(default="z", z=ZIPKIN)
    first, second = (context.scope(one.context, fleet.proxy(name)) for name in ("a-1", "b-1"))
    assert first.outbound is second.outbound
    assert first.inbound is second.inbound
    one.remove(SERVICE)
    gone = context.scope(one.context, fleet.proxy("a-1"))
    assert gone.outbound.key.own.traced is not None
    assert gone.outbound.key.own.traced.client.tracer is None
    assert CLUSTER not in gone.outbound.clusters


def test_a_proxy_that_repeats_the_meshs_words_is_like_others() -> None:
    text = "{defaultConfig: {tracing: {sampling: 5, zipkin: {address: 'z:1'}}}}"
    one = fleet.Mesh(fleet.mesh_config(text), APP).context

    def of(said: Any) -> Any:
        return context.scope(one, fleet.proxy(f"a-{len(str(said))}", PROXY_CONFIG={"tracing": said})).outbound

    assert of({"sampling": 5, "zipkin": {"address": "z:1"}}) is of({})
    assert of({"sampling": 6, "zipkin": {"address": "z:1"}}).key.own.tracing == ProxyTracing(
        sampling=6.0, collector=True
    )


# --- Telemetry


OTEL = {"opentelemetry": {"service": HOST, "port": 9411}}


def told(*items: dict[str, Any]) -> str:
    """A Telemetry of the whole mesh."""
    return fleet.dump("telemetry.istio.io/v1", "Telemetry", "t", "istio-system", spec={"tracing": list(items)})


def traced(*items: dict[str, Any], default: str = "") -> Tracing | None:
    one = mesh(told(*items), default=default, z=ZIPKIN, o=OTEL).context
    return context.scope(one, fleet.proxy()).outbound.key.own.traced


def by(name: str) -> list[dict[str, str]]:
    return [{"name": name}]


def both(found: Tracing | None) -> tuple[str, str]:
    """The providers of both sides."""
    assert found is not None
    sides = (found.client, found.server)
    client, server = (side.tracer.name if side.tracer else "" for side in sides)
    return client, server


@pytest.mark.parametrize(
    ("items", "default", "wanted"),
    [
        ([{"providers": by("z")}], "", ("z", "z")),
        ([{}], "", ("", "")),
        ([{}], "z", ("z", "z")),
        ([{"providers": by("z")}, {"providers": by("o"), "match": {"mode": "CLIENT"}}], "", ("o", "z")),
        ([{"providers": by("o"), "match": {"mode": "SERVER"}}], "z", ("z", "o")),
        ([{"providers": by("gone")}], "z", ("", "")),
        ([{"disableSpanReporting": True, "match": {"mode": "CLIENT"}}], "z", ("", "z")),
        ([{"disableSpanReporting": True}, {"disableSpanReporting": False}], "z", ("z", "z")),
        ([{"disableSpanReporting": True}, {"providers": by("z")}], "", ("", "")),
    ],
)
def test_later_words_win_side_by_side(items: list[dict[str, Any]], default: str, wanted: tuple[str, str]) -> None:
    assert both(traced(*items, default=default)) == wanted


def test_the_rest_is_joined_field_by_field() -> None:
    found = traced(
        {
            "randomSamplingPercentage": 10,
            "customTags": {"a": {"literal": {"value": "b"}}},
            "enableIstioTags": False,
            "useRequestIdForTraceSampling": False,
            "disableContextPropagation": True,
        },
        {"match": {"mode": "SERVER"}, "randomSamplingPercentage": 0, "customTags": {"c": {"literal": {"value": "d"}}}},
        {"match": {"mode": "CLIENT"}, "disableContextPropagation": False},
    )
    assert found is not None
    client, server = found.client, found.server
    assert (client.sampling, server.sampling) == (10, 0)
    assert (client.tags, [tag.name for tag in server.tags or ()]) == ((TAG,), ["c"])
    assert (client.istio_tags, client.by_request_id, server.istio_tags) == (False, False, False)
    assert (client.propagate, server.propagate) == (True, False)


def test_a_workloads_own_word_is_for_it_alone_and_those_alike_share() -> None:
    own = fleet.dump(
        "telemetry.istio.io/v1",
        "Telemetry",
        "own",
        spec={"selector": {"matchLabels": {"app": "web"}}, "tracing": [{"randomSamplingPercentage": 50}]},
    )
    one = mesh(APP, told({"providers": by("z")}), own, z=ZIPKIN)

    def of(name: str) -> Any:
        return context.scope(one.context, fleet.proxy(name, LABELS={"app": name.partition("-")[0]}))

    web, other = of("web-1"), of("other-1")
    assert (web.outbound.key.own.traced.client.sampling, other.outbound.key.own.traced.client.sampling) == (50, None)
    assert web.inbound.listeners["virtualInbound"].own.traced.server.sampling == 50
    assert of("web-2").outbound is web.outbound
    one.remove(own)
    assert of("web-1").outbound is of("other-1").outbound


def test_what_has_no_effect_is_told_on_the_object() -> None:
    wrong = told({"providers": by("gone"), "customTags": {"a": {"header": {"name": "x y"}}}})
    assert [(one.code.name, one.field, one.message) for one in mesh(wrong).context.diagnostics] == [
        ("BAD_VALUE", "spec.tracing[0].customTags[a]", "'x y' is no name of a header; it is left out"),
        (
            "UNTRACED",
            "spec.tracing[0].providers[0].name",
            "the mesh configuration has no provider 'gone' that spans can be sent to; nothing is traced",
        ),
    ]


def test_where_nobody_traces_nothing_changes() -> None:
    plain = context.scope(fleet.Mesh(SERVICE).context, fleet.proxy()).outbound
    assert plain.key.own.traced is None
    assert plain.key.own.tracing is NOTHING
