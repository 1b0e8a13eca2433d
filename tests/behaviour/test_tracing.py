"""Spans of real requests through real Envoys, at real collectors: who is traced, how, and what spans say."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
import pytest_asyncio
import yaml

from tests.behaviour import rig as rigs
from tests.behaviour.collectors import Collector, Span, arrived, of_otlp_http, of_zipkin
from tests.behaviour.next_workload import NextWorkload
from tests.behaviour.rig import Rig, address
from tests.behaviour.servers import Seen

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module")]
ZIPKIN, OTLP, GRPC = 9411, 4318, 4317
AT = 15
"""Where collectors are: not in the world, so that nothing else is asked there."""
OBJECTS = """
kind: ServiceEntry
metadata: {name: collector, namespace: tracing}
spec:
  hosts: [collector.example]
  exportTo: [.]
  resolution: STATIC
  endpoints: [{address: $ip15}]
  ports:
  - {number: 9411, name: http-zipkin, protocol: HTTP}
  - {number: 4318, name: http-otlp, protocol: HTTP}
  - {number: 4317, name: grpc-otlp, protocol: GRPC}
---
kind: Gateway
metadata: {name: front}
spec: {selector: {app: gw}, servers: [{port: {number: $gw, name: http, protocol: HTTP}, hosts: ["*"]}]}
---
kind: VirtualService
metadata: {name: front}
spec: {hosts: ["*"], gateways: [front], http: [{route: [{destination: {host: NEXT}}]}]}
"""
PROVIDERS = """
- name: zipkin
  zipkin: {service: collector.example, port: 9411, headers: [{name: x-key, value: k0}]}
- name: w3c
  zipkin: {service: collector.example, port: 9411, path: /spans, traceContextOption: USE_B3_WITH_W3C_PROPAGATION,
           enable64bitTraceId: true, maxTagLength: 6}
- name: otlp
  opentelemetry: {service: collector.example, port: 4318,
                  http: {path: v1/traces, timeout: 3s, headers: [{name: x-key, value: k1}]}}
- name: grpc
  opentelemetry: {service: tracing/collector.example, port: 4317,
                  grpc: {timeout: 3s, initialMetadata: [{name: x-key, value: k2}]}}
"""


class Traced(NextWorkload):
    """The rig with collectors."""

    def __init__(self, rig: Rig, collector: Collector) -> None:
        super().__init__(rig)
        self.collector = collector

    def spans(self) -> list[Span]:
        """All that came to any of them."""
        by_port = {ZIPKIN: of_zipkin, OTLP: of_otlp_http}
        found = [span for seen in self.rig.servers.seen if seen.port in by_port for span in by_port[seen.port](seen)]
        return found + self.collector.spans()

    def sent(self) -> Mapping[str, str]:
        """What came with the first spans: headers, and path."""
        if self.collector.exports:
            return self.collector.exports[0][1]
        (first, *_) = (seen for seen in self.rig.servers.seen if seen.port in (ZIPKIN, OTLP))
        return {**first.headers, "path": first.path}

    def asked(self) -> Seen:
        """The last request that came to the last app."""
        return [seen for seen in self.rig.servers.seen if seen.name == "local"][-1]

    async def use(self, tracing: object, *, provider: str = "", more: str = "") -> None:
        """Work with ``tracing`` for all proxies and with a provider of the mesh, and begin anew."""
        self.used += 1
        said = {
            "extensionProviders": yaml.safe_load(PROVIDERS),
            "defaultProviders": {"tracing": [provider] if provider else []},
            "defaultConfig": {"tracing": tracing},
        }
        await self.settle(said, OBJECTS + more)
        self.rig.servers.forget()
        self.collector.exports.clear()

    async def sides(self) -> tuple[Span, Span]:
        """The spans of one call: the client's and the server's."""
        spans = {span.kind: span for span in await arrived(self.spans, 2)}
        return spans["CLIENT"], spans["SERVER"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Traced]:
    async with rigs.running(Path(tmp_path_factory.mktemp("rig"))) as rig, contextlib.AsyncExitStack() as stack:
        collector = Collector()
        await collector.start(address(AT), GRPC)
        stack.push_async_callback(collector.stop)
        for name, port in {"zipkin": ZIPKIN, "otlp": OTLP}.items():
            server = await rig.servers.http(name, address(AT), port)
            stack.callback(server.close)
        yield Traced(rig, collector)


ALL = {"sampling": 100}


@pytest.mark.parametrize(
    ("provider", "key", "path"),
    [("zipkin", "k0", "/api/v2/spans"), ("otlp", "k1", "/v1/traces"), ("grpc", "k2", None)],
)
async def test_a_call_is_one_trace_of_a_client_and_a_server(
    mesh: Traced, provider: str, key: str, path: str | None
) -> None:
    await mesh.use(ALL, provider=provider)
    await mesh.call("/a?b=c")
    client, server = await mesh.sides()
    assert client.trace == server.trace
    assert len(client.trace) == 32
    assert (client.parent, server.parent) == ("", client.id)
    assert (client.service, server.service) == ("client.default", "server.default")
    assert client.name == server.name == f"{mesh.host}:{mesh.rig.ports['http']}/*"
    assert (mesh.sent()["x-key"], mesh.sent().get("path")) == (key, path)
    tags = {name: value for name, value in client.tags.items() if name.startswith("istio.")}
    assert tags == {
        "istio.canonical_revision": "latest",
        "istio.canonical_service": "client",
        "istio.cluster_id": "unknown",
        "istio.config": "/apis/networking.istio.io/v1/namespaces/default/virtual-service/next",
        "istio.field": "spec.http[0]",
        "istio.mesh_id": "m1",
        "istio.namespace": "default",
    }
    assert server.tags["istio.canonical_service"] == "server"
    assert client.tags["upstream_cluster"] == f"outbound|{mesh.rig.ports['http']}||{mesh.host}"
    assert client.tags["http.url"] == f"http://{mesh.host}/a?b=c"
    assert client.tags["guid:x-request-id"] == server.tags["guid:x-request-id"] == mesh.asked().headers["x-request-id"]


async def test_the_app_is_given_what_it_has_to_pass_on(mesh: Traced) -> None:
    await mesh.use(ALL, provider="zipkin")
    await mesh.call()
    _, server = await mesh.sides()
    headers = mesh.asked().headers
    assert (headers["x-b3-traceid"], headers["x-b3-spanid"]) == (server.trace, server.id)
    assert (headers["x-b3-parentspanid"], headers["x-b3-sampled"]) == (server.parent, "1")
    assert "traceparent" not in headers

    await mesh.use(ALL, provider="grpc")
    await mesh.call()
    _, server = await mesh.sides()
    assert mesh.asked().headers["traceparent"] == f"00-{server.trace}-{server.id}-01"
    assert "x-b3-traceid" not in mesh.asked().headers


async def test_a_trace_that_a_caller_began_goes_on(mesh: Traced) -> None:
    await mesh.use({"sampling": 0.0001}, provider="zipkin")
    await mesh.call(headers={"x-b3-traceid": "a" * 32, "x-b3-spanid": "b" * 16, "x-b3-sampled": "1"})
    client, server = await mesh.sides()
    assert (client.trace, client.parent, server.trace) == ("a" * 32, "b" * 16, "a" * 32)

    await mesh.use(ALL, provider="otlp")
    await mesh.call(headers={"traceparent": f"00-{'c' * 32}-{'d' * 16}-01"})
    client, server = await mesh.sides()
    assert (client.trace, client.parent, server.trace) == ("c" * 32, "d" * 16, "c" * 32)


async def test_with_opentelemetry_the_proxy_decides_whatever_the_caller_says(mesh: Traced) -> None:
    await mesh.use({"sampling": 0.0001}, provider="otlp")
    await mesh.call(headers={"traceparent": f"00-{'c' * 32}-{'d' * 16}-01"})
    _, trace, _, flags = mesh.asked().headers["traceparent"].split("-")
    assert (trace, flags) == ("c" * 32, "00")


async def test_zipkin_has_short_ids_w3c_and_another_path(mesh: Traced) -> None:
    await mesh.use(ALL, provider="w3c")
    await mesh.call("/abcdefghi")
    client, server = await mesh.sides()
    assert len(client.trace) == 16
    assert mesh.asked().headers["traceparent"].split("-")[1:3] == ["0" * 16 + server.trace, server.id]
    assert mesh.sent()["path"] == "/spans"
    assert client.tags["http.url"].endswith("/abcde")


async def test_what_is_not_sampled_is_not_reported_and_the_next_is_told(mesh: Traced) -> None:
    await mesh.use({"sampling": 0.0001}, provider="zipkin")
    for _ in range(20):
        await mesh.call()
    assert mesh.asked().headers["x-b3-sampled"] == "0"
    await mesh.call(headers={"x-b3-traceid": "a" * 32, "x-b3-spanid": "b" * 16, "x-b3-sampled": "1"})
    assert {span.trace for span in await arrived(mesh.spans, 2)} == {"a" * 32}


async def test_a_caller_can_ask_for_a_trace(mesh: Traced) -> None:
    await mesh.use({"sampling": 0.0001}, provider="zipkin")
    await mesh.call(headers={"x-client-trace-id": "mine"})
    client, _ = await mesh.sides()
    assert client.tags["guid:x-client-trace-id"] == "mine"


async def test_proxies_say_what_they_are_asked_to(mesh: Traced) -> None:
    tags = {
        "text": {"literal": {"value": "fixed"}},
        "who": {"header": {"name": "x-who", "defaultValue": "nobody"}},
        "whose": {"environment": {"name": "OWN_SERVICE"}},
    }
    await mesh.use({**ALL, "customTags": tags, "enableIstioTags": True, "maxPathTagLength": 3}, provider="zipkin")
    await mesh.call("/abcdef", headers={"x-who": "me"})
    client, server = await mesh.sides()
    assert [client.tags[name] for name in tags] == ["fixed", "me", "client"]
    assert server.tags["whose"] == "server"
    assert client.tags["http.url"].endswith("/ab")


async def test_a_gateway_begins_a_trace_with_a_span_for_its_upstream(mesh: Traced) -> None:
    await mesh.use(ALL, provider="zipkin")
    assert (await mesh.rig.ask(port="gw", host="any.example")).status == 200
    spans = await arrived(mesh.spans, 3)
    assert len({span.trace for span in spans}) == 1
    by_parent = {span.parent: span for span in spans}
    first = by_parent[""]
    upstream = by_parent[first.id]
    last = by_parent[upstream.id]
    assert [span.service for span in (first, upstream, last)] == ["gw.default", "gw.default", "server.default"]


async def test_no_provider_no_trace(mesh: Traced) -> None:
    await mesh.use(ALL)
    await mesh.call()
    assert "x-b3-traceid" not in mesh.asked().headers
    assert mesh.asked().headers["x-request-id"][14] == "9"


async def test_a_provider_that_is_not_there_takes_nothing_with_it(mesh: Traced) -> None:
    await mesh.use(ALL, provider="gone")
    await mesh.call()
    assert "x-b3-traceid" not in mesh.asked().headers
    message = "the mesh configuration has no provider 'gone' that spans can be sent to; nothing is traced"
    assert mesh.rig.findings() == [f"Code.UNTRACED data.mesh.defaultProviders.tracing[0]: {message}"]


# --- Telemetry


def telemetry(text: str, namespace: str = "istio-system") -> str:
    return f"---\nkind: Telemetry\nmetadata: {{namespace: {namespace}}}\nspec: {{tracing: [{{{text}}}]}}\n"


async def test_telemetry_names_the_provider_and_how_much(mesh: Traced) -> None:
    await mesh.use({}, more=telemetry("providers: [{name: otlp}], randomSamplingPercentage: 100"))
    await mesh.call()
    client, server = await mesh.sides()
    assert (client.trace, client.id) == (server.trace, server.parent)
    assert mesh.sent()["x-key"] == "k1"

    await mesh.use(ALL, more=telemetry("providers: [{name: zipkin}], randomSamplingPercentage: 0"))
    for _ in range(20):
        await mesh.call()
    assert mesh.asked().headers["x-b3-sampled"] == "0"


async def test_one_side_can_be_traced_alone(mesh: Traced) -> None:
    await mesh.use(ALL, provider="zipkin", more=telemetry("disableSpanReporting: true, match: {mode: CLIENT}"))
    await mesh.call()
    (server,) = await arrived(mesh.spans, 1)
    assert (server.kind, server.parent, server.service) == ("SERVER", "", "server.default")


async def test_a_workload_can_be_left_out(mesh: Traced) -> None:
    whose = "{selector: {matchLabels: {role: server}}, tracing: [{disableSpanReporting: true}]}"
    own = f"---\nkind: Telemetry\nspec: {whose}\n"
    await mesh.use(ALL, provider="zipkin", more=own)
    await mesh.call()
    (client,) = await arrived(mesh.spans, 1)
    assert client.kind == "CLIENT"
    assert mesh.asked().headers["x-b3-spanid"] == client.id


async def test_tags_of_telemetry_stand_for_those_of_the_mesh(mesh: Traced) -> None:
    tags = (
        "customTags: {who: {header: {name: x-who, defaultValue: nobody}}, flags: {formatter: {value: '%REQ(:path)%!'}},"
        " bad: {formatter: {value: '%NONSENSE%'}}}, enableIstioTags: false"
    )
    await mesh.use(
        {**ALL, "customTags": {"mesh": {"literal": {"value": "x"}}}}, provider="zipkin", more=telemetry(tags)
    )
    await mesh.call("/a")
    client, _ = await mesh.sides()
    assert (client.tags["who"], client.tags["flags"]) == ("nobody", "/a!")
    assert not {name for name in client.tags if name in ("mesh", "bad") or name.startswith("istio.")}


async def test_context_can_be_kept(mesh: Traced) -> None:
    await mesh.use(ALL, provider="zipkin", more=telemetry("disableContextPropagation: true"))
    await mesh.call()
    client, server = await mesh.sides()
    assert client.trace != server.trace
    assert "x-b3-traceid" not in mesh.asked().headers


async def test_a_request_id_need_not_say_whether_it_is_traced(mesh: Traced) -> None:
    await mesh.use(ALL, provider="zipkin", more=telemetry("useRequestIdForTraceSampling: false"))
    await mesh.call()
    await mesh.sides()
    assert mesh.asked().headers["x-request-id"][14] == "4"
