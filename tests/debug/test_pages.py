"""Who may see the debug pages, and what stands on them."""

import asyncio
import datetime as dt
import time
from collections.abc import Mapping

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import extension_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2
from google.protobuf.message import Message

from crds.diagnostic import Code, warning
from crds.key import ConfigKey
from crds.parse import parse
from istiod import instruments
from istiod.config import resource
from istiod.config.protocols import UnavailableError
from istiod.config.resource import Resource, ResourceSet
from istiod.config.store import ConfigStore
from istiod.debug import counts, dumps, gauges, guard, metrics, server
from istiod.envoy.compiler import VIRTUAL_HOST
from istiod.pages import Pages
from istiod.pipeline import Pipeline
from wire import names
from wire.spiffe import Identity

ROOT = Identity("cluster.local", "mesh-root", "kiali")
SHOP = Identity("cluster.local", "shop", "web")


class Verifier:
    """Tokens are their own proof: ROOT and SHOP."""

    async def verify(self, token: str) -> Identity | None:
        if token == "unknown":
            raise UnavailableError("tokens cannot be reviewed now: timeout")
        return {"root": ROOT, "shop": SHOP}.get(token)


def from_afar(request: web.Request) -> web.Request:
    return request.clone(remote="10.244.0.7")


@pytest.mark.parametrize(
    ("remote", "path", "headers", "status"),
    [
        ("127.0.0.1", "/debug/configz", {}, 200),
        ("::1", "/debug/configz", {}, 200),
        ("::ffff:127.0.0.1", "/debug/configz", {}, 200),
        ("10.244.0.7", "/metrics", {}, 200),
        ("10.244.0.7", "/ready", {}, 200),
        ("10.244.0.7", "/debug/configz", {}, 401),
        ("10.244.0.7", "/debug/configz", {"Authorization": "Basic root"}, 401),
        ("10.244.0.7", "/debug/configz", {"Authorization": "Bearer stranger"}, 401),
        ("10.244.0.7", "/debug/configz", {"Authorization": "Bearer root"}, 200),
        ("10.244.0.7", "/debug/configz", {"Authorization": "Bearer shop"}, 403),
        ("10.244.0.7", "/debug/config_dump?proxyID=a.shop", {"Authorization": "Bearer shop"}, 200),
        ("10.244.0.7", "/debug/config_dump?proxyID=a.other", {"Authorization": "Bearer shop"}, 403),
        ("10.244.0.7", "/debug/config_dump?proxyID=a.other.shop", {"Authorization": "Bearer shop"}, 200),
        ("10.244.0.7", "/debug/config_dump?proxyID=a.bookshop", {"Authorization": "Bearer shop"}, 403),
        ("10.244.0.7", "/debug/config_dump", {"Authorization": "Bearer shop"}, 403),
        ("10.244.0.7", "/debug/ndsz?proxyID=a.shop", {"Authorization": "Bearer shop"}, 200),
        ("10.244.0.7", "/debug/sidecarz?proxyID=a.shop", {"Authorization": "Bearer shop"}, 403),
        ("10.244.0.7", "/debug/config_dump?proxyID=a.other&proxyID=a.shop", {"Authorization": "Bearer shop"}, 403),
        ("10.244.0.7", "/debug", {}, 401),
        ("10.244.0.7", "/debug/configz", {"Authorization": "Bearer unknown"}, 503),
        ("garbage", "/debug/configz", {}, 401),
    ],
)
async def test_pages_are_for_the_pod_itself_and_for_tokens_of_the_mesh(
    remote: str, path: str, headers: Mapping[str, str], status: int
) -> None:
    """Row SEC9 of the hostile inputs."""

    @web.middleware
    async def elsewhere(request: web.Request, handler: guard.Handler) -> web.StreamResponse:
        return await handler(request.clone(remote=remote))

    async def page(_: web.Request) -> web.Response:
        return web.Response(text="secret")

    app = web.Application(middlewares=[elsewhere, guard.middleware(Verifier, "mesh-root")])
    app.router.add_get("/{rest:.*}", page)
    async with TestClient(TestServer(app)) as client:
        answer = await client.get(path, headers=headers)
        assert answer.status == status
        assert ("secret" in await answer.text()) is (status == 200)


async def test_before_tokens_can_be_judged_none_proves_anything() -> None:
    @web.middleware
    async def elsewhere(request: web.Request, handler: guard.Handler) -> web.StreamResponse:
        return await handler(request.clone(remote="10.0.0.1"))

    async def page(_: web.Request) -> web.Response:
        return web.Response(text="secret")

    for verifier, status in ((lambda: None, 401), (None, 200)):
        app = web.Application(middlewares=[elsewhere, guard.middleware(verifier, "mesh-root")])
        app.router.add_get("/debug/x", page)
        async with TestClient(TestServer(app)) as client:
            assert (await client.get("/debug/x", headers={"Authorization": "Bearer root"})).status == status


def test_the_mesh_is_shown_as_it_is_read() -> None:
    store = ConfigStore()
    pipeline = Pipeline(store, lambda _: None, time.monotonic)
    pages = Pages(
        store=store, pipeline=pipeline, counts=counts.Counts(), waiting=tuple, findings=tuple, ads=lambda: None
    )
    mesh = pages.sources().mesh
    levels = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]\n" for n in range(1, 10))
    for said, shown in (("since: 2026-01-01", {"since": "2026-01-01"}), (f"l0: &l0 x\n{levels}", {}), ("- a", {})):
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio", "namespace": "istio-system"}}
        item = parse({**body, "data": {"mesh": said}}).object
        assert item is not None
        store.apply(item)
        assert mesh() == shown


def packed(name: str, type_url: str, message: Message) -> Resource:
    return resource.make(name, type_url, message.SerializeToString(deterministic=True))


def held() -> ResourceSet:
    secret = secret_pb2.Secret(name="kubernetes://tls")
    secret.tls_certificate.certificate_chain.inline_bytes = b"CHAIN"
    secret.tls_certificate.private_key.inline_bytes = b"-----BEGIN PRIVATE KEY-----"
    password = secret_pb2.Secret(name="generic")
    password.generic_secret.secret.inline_string = "hunter2"
    tickets = secret_pb2.Secret(name="tickets")
    tickets.session_ticket_keys.keys.add().inline_bytes = b"hunter3"
    asks = cluster_pb2.Cluster(name="a", type=cluster_pb2.Cluster.EDS)
    static = cluster_pb2.Cluster(name="b")
    every = {
        names.CLUSTER: [packed("a", names.CLUSTER, asks), packed("b", names.CLUSTER, static)],
        names.ENDPOINT: [
            packed(name, names.ENDPOINT, endpoint_pb2.ClusterLoadAssignment(cluster_name=name)) for name in "abc"
        ],
        names.SECRET: [packed(each.name, names.SECRET, each) for each in (secret, password, tickets)],
        names.EXTENSION: [
            packed(name, names.EXTENSION, extension_pb2.TypedExtensionConfig(name=name)) for name in ("own", "unasked")
        ],
        names.LISTENER: [resource.make("l", names.LISTENER, b"", refs={names.EXTENSION: frozenset(("own", "absent"))})],
    }
    return ResourceSet(layers={kind: ({each.name: each for each in found},) for kind, found in every.items()})


def test_a_dump_has_the_shape_of_envoys_own() -> None:
    sections = {each["@type"].rpartition(".")[2]: each for each in dumps.config_dump(held())["configs"]}
    clusters = sections["ClustersConfigDump"]["dynamic_active_clusters"]
    assert [each["cluster"]["name"] for each in clusters] == ["a", "b"]
    assert all(each["version_info"] for each in clusters)
    endpoints = sections["EndpointsConfigDump"]["dynamic_endpoint_configs"]
    assert [each["endpoint_config"]["cluster_name"] for each in endpoints] == ["a"], "only of clusters that ask"
    assert [each["cluster_name"] for each in dumps.load_assignments(held())] == ["a"]
    assert [each["ecds_filter"]["name"] for each in sections["EcdsConfigDump"]["ecds_filters"]] == ["own"]
    assert [each["name"] for each in dumps.extensions(held())] == ["own"]


def test_a_dump_holds_no_private_key_and_no_password() -> None:
    """Row SEC75 of the hostile inputs."""
    text = str(dumps.config_dump(held()))
    assert "kubernetes://tls" in text
    assert "Q0hBSU4=" in text, "the chain is public"
    for hidden in ("PRIVATE KEY", "LS0tLS1CRUdJTiBQUklWQVRF", "hunter", "aHVudGVy"):
        assert hidden not in text


def test_metrics_have_the_names_of_the_stock_dashboard() -> None:
    held_counts = counts.Counts()
    key, core = ConfigKey("networking.istio.io", "VirtualService", "a", "b"), ConfigKey("", "Service", "a", "b")
    seen: list[ConfigKey] = []
    there = {key, core}
    observe = held_counts.observing(seen.append, there.__contains__)
    for each in (key, key, core):
        observe(each)
    there.clear()
    observe(key)
    held_counts.sent(names.CLUSTER, 20_000, 0.02, 0.03)
    held_counts.sent(names.NAME_TABLE, 1, 0, 0)
    held_counts.convergence.observe(40)
    held_counts.queue.observe(0.2)
    held_counts.refused(names.LISTENER)
    held_counts.pushed(0.006, {"build": 0.2, "diff": 0.0005})
    held_counts.fault()
    held_counts.lag.observe(0.02)
    of_gateway = ConfigKey("networking.istio.io", "Gateway", "a", "b")
    facts = metrics.Facts(
        proxies={"1.30.0": 2},
        behind=1,
        staleness=2.5,
        refused=[names.LISTENER],
        mesh=gauges.Mesh(services=3, unserved=1, unready=4, podless=1, strangers=5),
        virtual_services=7,
        findings=[warning(Code.DUPLICATE_HOST, None, "", ""), warning(Code.PORT_CONFLICT, of_gateway, "", "")],
        unread=6,
        compiled={names.CLUSTER: 8, VIRTUAL_HOST: 9},
        kept=10,
        ends={instruments.ROOT: dt.datetime(2100, 1, 1, tzinfo=dt.UTC).timestamp()},
    )
    lines = metrics.text(facts, held_counts).splitlines()
    for line in (
        f'istio_build{{component="pilot",tag="{names.VERSION}"}} 1',
        'pilot_xds{version="1.30.0"} 2',
        "pilot_services 3",
        "pilot_xds_lds_reject 1",
        "pilot_xds_cds_reject 0",
        'pilot_total_xds_rejects{type="lds"} 1',
        "pilot_total_xds_internal_errors 1",
        "pilot_stale_proxies 1",
        "pilot_staleness_seconds 2.5",
        "pilot_eds_no_instances 1",
        "pilot_endpoint_not_ready 4",
        "endpoint_no_pod 1",
        "pilot_no_ip 5",
        "pilot_virt_services 7",
        "pilot_xds_write_timeout 6",
        "pilot_conflict_inbound_listener 1",
        "pilot_conflict_outbound_listener_tcp_over_current_tcp 0",
        'pilot_compiled_resources_total{type="cds"} 8',
        'pilot_compiled_resources_total{type="virtual_host"} 9',
        "xds_cache_size 10",
        f'pilot_info{{version="{names.VERSION}"}} 1',
        'pilot_push_stage_seconds_bucket{stage="build",le="0.1"} 0',
        'pilot_push_stage_seconds_bucket{stage="build",le="1"} 1',
        'pilot_push_stage_seconds_bucket{stage="diff",le="0.001"} 1',
        'pilot_push_stage_seconds_count{stage="encode"} 2',
        'pilot_push_stage_seconds_sum{stage="send"} 0.03',
        'pilot_pushcontext_init_seconds_bucket{le="0.5"} 1',
        'pilot_debounce_time_bucket{le="0.01"} 1',
        'pilot_xds_send_time_bucket{le="0.1"} 2',
        'pilot_proxy_queue_time_bucket{le="0.1"} 0',
        'pilot_event_loop_lag_seconds_bucket{le="0.05"} 1',
        'pilot_inbound_updates{type="config"} 3',
        'pilot_inbound_updates{type="svc"} 1',
        "pilot_vservice_dup_domain 1",
        "citadel_server_root_cert_expiry_timestamp 4102444800",
        'pilot_xds_pushes{type="cds"} 1',
        'pilot_xds_pushes{type="nds"} 1',
        'pilot_xds_push_time_bucket{type="cds",le="0.01"} 0',
        'pilot_xds_push_time_bucket{type="cds",le="0.1"} 1',
        'pilot_xds_config_size_bytes_bucket{type="cds",le="+Inf"} 1',
        'pilot_proxy_convergence_time_bucket{le="30"} 0',
        "pilot_proxy_convergence_time_count 1",
        'pilot_k8s_cfg_events{type="VirtualService",event="add"} 1',
        'pilot_k8s_cfg_events{type="VirtualService",event="update"} 1',
        'pilot_k8s_cfg_events{type="VirtualService",event="delete"} 1',
        'pilot_k8s_reg_events{type="Services",event="add"} 1',
        'pilot_push_triggers{type="config"} 3',
        'pilot_push_triggers{type="service"} 1',
    ):
        assert line in lines
    for name in ("process_resident_memory_bytes ", "process_max_fds ", 'python_gc_collections_total{generation="2"} '):
        assert any(line.startswith(name) for line in lines)
    assert seen == [key, key, core, key]


async def test_no_page_turns_into_another_protocol() -> None:
    """SEC27: whoever asks for h2c on a port of HTTP gets a page in HTTP/1.1, and the connection ends with it."""
    pages = Pages(
        store=ConfigStore(),
        pipeline=Pipeline(ConfigStore(), lambda _: None, time.monotonic),
        counts=counts.Counts(),
        waiting=tuple,
        findings=tuple,
        ads=lambda: None,
    )
    upgrade = "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n\r\n"
    async with TestServer(server.application(pages.sources())) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(f"GET /version HTTP/1.1\r\nhost: x\r\n{upgrade}PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".encode())
        head = await asyncio.wait_for(reader.readuntil(b"\r\n"), 10)
        assert head == b"HTTP/1.1 200 OK\r\n"
        rest = await asyncio.wait_for(reader.read(65_536), 10)
        assert b"101" not in rest.partition(b"\r\n\r\n")[0]
        writer.close()
