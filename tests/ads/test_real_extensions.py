"""The real Envoy asks for a filter's configuration, takes and refuses it, and loses it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import extension_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.filters.http.header_mutation.v3 import header_mutation_pb2
from envoy.extensions.filters.http.lua.v3 import lua_pb2
from envoy.extensions.filters.http.upstream_codec.v3 import upstream_codec_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import json_format

from e2e.harness.ports import free_ports
from istiod.ads.server import AdsService
from istiod.ads.session import Shared
from istiod.ads.stream import Timing
from istiod.config import resource
from istiod.config.resource import Resource
from istiod.envoy import extensions
from tests.ads import made, real_envoy
from tests.ads.real_envoy import RunningEnvoy
from tests.ads.serving import running
from tests.waiting import until
from wire import names

pytestmark = pytest.mark.envoy
TYPE = "type.googleapis.com/"
MUTATION = TYPE + header_mutation_pb2.HeaderMutation.DESCRIPTOR.full_name
LUA = TYPE + lua_pb2.Lua.DESCRIPTOR.full_name
WAIT = "2s"


def asking(port: int, *filters: str, name: str = "l1") -> Resource:
    """A listener whose filters ask for their configurations."""
    source = {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": WAIT}
    asked = [{"name": each, "config_discovery": {"config_source": source, "type_urls": [MUTATION]}} for each in filters]
    router = {"name": "router", "typed_config": {"@type": TYPE + "envoy.extensions.filters.http.router.v3.Router"}}
    route = {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "ok"}}}
    manager = {
        "@type": TYPE + "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [*asked, router],
    }
    said = {
        "name": name,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    message = json_format.ParseDict(said, listener_pb2.Listener())
    refs = {names.EXTENSION: frozenset(extensions.asked(message))}
    return resource.make(name, names.LISTENER, made.bytes_of(message), refs=refs)


def config(name: str, value: str) -> Resource:
    """Sets a header of responses; Envoy refuses it where the value is empty: so is the header's name then."""
    append = {"header": {"key": "x-from" if value else "", "value": value}}
    mutations = {"response_mutations": [{"append": append}]}
    return _typed(name, {"@type": MUTATION, "mutations": mutations})


def _typed(name: str, value: dict[str, Any]) -> Resource:
    message = json_format.ParseDict({"name": name, "typed_config": value}, extension_pb2.TypedExtensionConfig())
    return resource.make(name, names.EXTENSION, made.bytes_of(message))


@dataclass
class World:
    """A control plane, an Envoy and the listener's port."""

    configuration: made.Fixed
    server: AdsService
    envoy: RunningEnvoy
    port: int
    delta: bool

    async def answer(self) -> tuple[int, str]:
        """Status and header of a call; 0 where there is no listener."""
        try:
            async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{self.port}/") as response:
                return response.status, response.headers.get("x-from", "")
        except aiohttp.ClientError:
            return 0, ""

    async def answers(self, status: int, header: str = "") -> None:
        async def so() -> bool:
            return await self.answer() == (status, header)

        await until(so, f"{status} {header}")

    def given_back(self) -> bool:
        """Whether Envoy asks for no configuration of a filter any more."""
        streams = (each.session._stream for each in self.server._connections.values())
        return not any(stream.subscriptions[names.EXTENSION].names for stream in streams)

    def refused(self) -> list[str]:
        return [one.error for one in self.server.rejections()]


@pytest_asyncio.fixture(params=["delta", "sotw"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    configuration = made.Fixed()
    service = AdsService(configuration, time.monotonic, shared=Shared(timing=Timing(linger=1.0, gate=60.0)))
    delta = request.param == "delta"
    (port,) = free_ports(1)
    async with running(service) as served, real_envoy.envoy(tmp_path, served.port, delta=delta) as envoy:
        yield World(configuration, service, envoy, port, delta)


async def test_a_configuration_comes_changes_is_refused_and_goes(world: World) -> None:
    listener = asking(world.port, "own")
    world.configuration.set(listener, config("own", "one"))
    await world.answers(200, "one")
    await until(world.server.converged, "every resource ACKed")
    dumped = json.loads(await world.envoy.admin("/config_dump?resource=ecds_filters"))
    assert [each["ecds_filter"]["name"] for each in dumped["configs"]] == ["own"]
    loads = await world.envoy.total("listener_manager.listener_create_success")
    world.configuration.set(listener, config("own", "two"))
    await world.answers(200, "two")
    world.configuration.set(listener, config("own", ""))
    await until(lambda: bool(world.refused()), "it is refused")
    assert await world.answer() == (200, "two"), "the last good one serves"
    other = _typed("own", {"@type": LUA, "default_source_code": {"inline_string": ""}})
    world.configuration.set(listener, other)
    await until(lambda: any("has type URL" in each for each in world.refused()), "a type that the filter does not take")
    assert await world.answer() == (200, "two")
    world.configuration.set(listener, config("own", "three"))
    await world.answers(200, "three")
    assert world.refused() == []
    assert await world.envoy.total("listener_manager.listener_create_success") == loads
    world.configuration.set(listener)
    if world.delta:
        await world.answers(500)
    world.configuration.set(listener, config("own", "four"))
    await world.answers(200, "four")
    await until(world.server.converged, "every resource ACKed")


async def test_a_listener_waits_for_its_filter_no_longer_than_it_says(world: World) -> None:
    world.configuration.set(asking(world.port))
    await world.answers(200)
    began = time.monotonic()
    world.configuration.set(asking(world.port, "none"))
    assert await world.answer() == (200, ""), "the old listener serves meanwhile"
    await world.answers(500)
    assert time.monotonic() > began + 1
    world.configuration.set(asking(world.port, "none"), config("none", "late"))
    await world.answers(200, "late")


async def test_a_refusal_ends_the_wait_of_all_listeners_but_not_for_what_is_asked_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in tests/ads/model.py: what was refused and given back is not sent again; the listener before it serves on."""
    monkeypatch.setattr(f"{__name__}.WAIT", "0s")
    (other,) = free_ports(1)
    plain, asked = asking(world.port), asking(world.port, "own")
    world.configuration.set(plain)
    await world.answers(200)
    world.configuration.set(plain, asking(other, "late", name="l2"))
    await until(lambda: world.envoy.total("total_listeners_warming"), "l2 waits")
    world.configuration.set(asked, asking(other, "late", name="l2"), config("own", ""))
    await until(lambda: bool(world.refused()), "it is refused")
    await world.answers(500)
    assert await world.envoy.get(other) == "status 500", "l2 waits no more"
    world.configuration.set(plain)
    await world.answers(200)
    await until(world.given_back, "the filter's configuration is asked for no more")
    world.configuration.set(asked, config("own", ""))
    await until(lambda: world.envoy.total("total_listeners_warming"), "l1 waits")
    assert await world.answer() == (200, ""), "the listener before it serves"
    world.configuration.set(asked, config("own", "good"))
    await world.answers(200, "good")


UPSTREAM = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def leading(port: int, revision: str = "") -> list[Resource]:
    """A listener whose only route leads to c0; another revision is another route."""
    table = made.route("r0", "c0") if not revision else made.route("r0", revision)
    return [made.listener("l1", port, "r0"), table]


def upstream(name: str, app: int, *filters: str) -> list[Resource]:
    """A cluster whose filters ask for their configurations, and its endpoint."""
    source = {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "60s"}
    asked = [{"name": each, "config_discovery": {"config_source": source, "type_urls": [MUTATION]}} for each in filters]
    codec = TYPE + upstream_codec_pb2.UpstreamCodec.DESCRIPTOR.full_name
    options = {
        "@type": TYPE + UPSTREAM,
        "explicit_http_config": {"http_protocol_options": {}},
        "http_filters": [*asked, {"name": "codec", "typed_config": {"@type": codec}}],
    }
    (framed,) = discovery_pb2.DiscoveryResponse.FromString(made.cluster(name).any_frame).resources
    message = cluster_pb2.Cluster.FromString(framed.value)
    json_format.ParseDict({"typed_extension_protocol_options": {UPSTREAM: options}}, message)
    refs = {names.ENDPOINT: frozenset((name,)), names.EXTENSION: frozenset(extensions.asked(message))}
    return [
        resource.make(name, names.CLUSTER, made.bytes_of(message), refs=refs),
        made.endpoints(name, app),
    ]


@pytest_asyncio.fixture
async def app() -> AsyncIterator[int]:
    async with real_envoy.app("app") as port:
        yield port


async def test_a_filter_of_an_upstream_comes_with_its_cluster_changes_and_goes(world: World, app: int) -> None:
    """A cluster waits for it: were its configuration held until the cluster is ACKed, none of the two would come."""
    plain = [*leading(world.port), made.cluster("c0"), made.endpoints("c0", app)]
    world.configuration.set(*plain)
    await world.answers(200)
    failures: list[tuple[int, str]] = []
    done = asyncio.Event()

    async def call() -> None:
        while not done.is_set():
            if (found := await world.answer())[0] != 200:
                failures.append(found)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(call())
        new = [*leading(world.port, "c1"), *plain[2:], *upstream("c1", app, "own")]
        world.configuration.set(*new, config("own", "one"))
        await world.answers(200, "one")
        world.configuration.set(*new, config("own", "two"))
        await world.answers(200, "two")
        changed = [*leading(world.port, "c1"), *plain[2:], *upstream("c1", app, "own", "more")]
        world.configuration.set(*changed, config("own", "three"), config("more", "three"))
        await world.answers(200, "three")
        world.configuration.set(*plain)
        await world.answers(200)
        done.set()
    assert failures == []
    assert world.refused() == []
