"""One small mesh for all cases: our store, pipeline and xDS server in this process, three real Envoys, real servers.

Proxies ask over mutual TLS, each as its service account: nobody else is given secrets. Nothing captures traffic: the
client's sidecar listens on localhost (interception mode NONE), the gateway and the other sidecar on ports of their own.
A case's objects come beside those of ``world``, and go when the next case comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import os
import socket
import ssl
import string
import tempfile
import time
from collections.abc import AsyncIterator, Container, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from agent.sds import secrets
from agent.sds.server import SdsServer
from crds import parse
from crds.key import ConfigKey
from crds.meta import Object
from e2e.harness.ports import free_ports
from istiod import gateway_names
from istiod.ads.server import AdsService, ProxyStatus
from istiod.config.resource import Resource
from istiod.config.store import ConfigStore
from istiod.gateway_names import GatewayNames
from istiod.grpcserver import tls
from istiod.pipeline import Pipeline
from tests.ads import real_envoy, serving
from tests.ads.real_envoy import RunningEnvoy
from tests.behaviour import pki, world
from tests.behaviour.client import Ask, Reply, ask, connected
from tests.behaviour.pki import Authority
from tests.behaviour.servers import Listening, Servers
from tests.envoy import guarded
from tests.waiting import until
from wire import names, telemetry

Document = dict[str, Any]
_PID = os.getpid()


class RefusedError(AssertionError):
    """An object of a case is refused by the checks, or what is made of it by Envoy."""


def address(number: int) -> str:
    """One of 60 addresses that are this process's own."""
    return f"127.{100 + _PID % 150}.{_PID // 150 % 250}.{number}"


class Rig:
    """What cases work with. ``ports``: of listeners, by name; ``servers``: what came in behind the proxies."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = dict(zip(world.PORTS, free_ports(len(world.PORTS)), strict=True))
        self.servers = Servers()
        self.texts: dict[str, str] = {}
        self.roots = Authority("roots", folder)
        self.strangers = Authority("strangers", folder)
        self.mesh = guarded.Certificates(folder)
        self.envoys: dict[str, RunningEnvoy] = {}
        self.xds_port = 0
        self._store = ConfigStore()
        self._store.keep_time(lambda: dt.datetime.now(dt.UTC))
        self.pipeline = Pipeline(self._store, lambda _: None, time.monotonic)
        self.service = AdsService(self.pipeline, time.monotonic)
        self._base: dict[ConfigKey, Object] = {}
        self._there: dict[ConfigKey, Object] = {}

    # --- configuration

    def filled(self, text: str) -> str:
        """A text with the rig's ports and addresses in it: ``$http``, ``$ip1``, ``$certs``."""
        known: dict[str, object] = {**self.ports, "certs": self.folder, **world.NUMBERS}
        known |= self.texts
        known |= {f"ip{number}": address(number) for number in range(1, 20)}
        return string.Template(text).substitute(known)

    def read(self, text: str) -> list[Document]:
        """The documents of a text, with what every object needs."""
        found = []
        for number, one in enumerate(filter(None, yaml.safe_load_all(self.filled(text)))):
            found.append(world.completed(one, number))
        return found

    async def settle(self, documents: Iterable[Document], patience: float = 20.0) -> None:
        """Have these objects beside the world's, and wait until every proxy works with them.

        Raises:
            RefusedError: the checks or Envoy refuse something.
        """
        await self._work_with({**self._base}, documents, patience)

    async def add(self, documents: Iterable[Document], patience: float = 20.0) -> None:
        """Have these objects beside those that are there, until the next case comes."""
        await self._work_with({**self._there}, documents, patience)

    async def _work_with(self, wanted: dict[ConfigKey, Object], documents: Iterable[Document], patience: float) -> None:
        for one in documents:
            parsed = parse.parse(world.stored(one))
            if parsed.object is None:
                raise RefusedError("\n".join(str(found) for found in parsed.diagnostics))
            wanted[parsed.object.key] = parsed.object
        for key in self._there.keys() - wanted.keys():
            self._store.remove(key)
        for key, item in wanted.items():
            if self._there.get(key) is not item:
                self._store.apply(item)
        self._there = wanted
        self.pipeline.push()
        await until(self.at_work, "every proxy works with its configuration", patience)

    async def at_work(self) -> bool:
        """Whether all is acknowledged, and nothing is warming."""
        if refused := self.service.rejections():
            raise RefusedError("\n".join(f"{one.resource.name}: {one.error}" for one in refused))
        if not self.service.converged():
            return False
        wanted = {cluster.name for status in self.service.status() for cluster in self._clusters(status)}
        return all([await _warm(envoy, wanted) for envoy in self.envoys.values()])

    def _clusters(self, status: ProxyStatus) -> Iterable[Resource]:
        return self.pipeline.target(status.proxy).of(names.CLUSTER)

    def base(self, documents: Iterable[Document]) -> None:
        """What is there always."""
        for one in documents:
            parsed = parse.parse(one)
            assert parsed.object is not None, parsed.diagnostics
            self._base[parsed.object.key] = self._there[parsed.object.key] = parsed.object
            self._store.apply(parsed.object)

    async def names_of_gateways(self, known: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
        """Have gateways' names looked up, of which these are known, and the answers at work; which names there were."""
        assert self.pipeline.context is not None

        async def look(name: str) -> tuple[str, ...]:
            return known[name]

        names = GatewayNames(self._store.put_gateway_addresses, lambda _: None, time.monotonic, look)
        task = asyncio.create_task(names.run())
        wanted = gateway_names.wanted(self.pipeline.context)
        names.want(wanted)
        await names.settled(20)
        task.cancel()
        self.pipeline.push()
        await until(self.at_work, "the gateways' addresses are at work", 20)
        return tuple(wanted)

    def findings(self) -> list[str]:
        """What the mesh has to say about the objects, by code and field."""
        context = self.pipeline.context
        return [] if context is None else [f"{one.code} {one.field}: {one.message}" for one in context.diagnostics]

    @contextlib.asynccontextmanager
    async def capturing(self, app: str, home: str = "default") -> AsyncIterator[RunningEnvoy]:
        """One more proxy of an app in a namespace, which listens as if all traffic were captured for it."""
        own, others = Path(tempfile.mkdtemp(dir=self.folder)), len(self.service.status())
        async with _proxy(self, own, ("sidecar", f"{app}-1", app), capture="REDIRECT", home=home) as envoy:
            await until(lambda: len(self.service.status()) > others, "the proxy is connected", 30)
            yield envoy

    # --- traffic

    async def ask(self, path: str = "/", *, port: str = "http", **said: Any) -> Reply:
        """A request to the client's sidecar, or to another port by its name."""
        return await ask(Ask(port=self.ports[port], path=path, **said))

    async def names(self, count: int, path: str = "/", **said: Any) -> list[str]:
        """Who answers so many requests, one after the other."""
        return [(await self.ask(path, **said)).body for _ in range(count)]

    async def line(self, port: str = "tcp", text: str = "hello", **said: Any) -> str:
        """What comes back for a line over TCP; "" where nothing does."""
        try:
            async with asyncio.timeout(5):
                reader, writer = await connected(Ask(port=self.ports[port], **said))
                writer.write(f"{text}\n".encode())
                found = (await reader.readline()).decode().strip()
                writer.close()
                return found
        except (OSError, TimeoutError):
            return ""

    async def stat(self, pattern: str, envoy: str = "client") -> int:
        """The sum of an Envoy's counters whose whole names are of a pattern."""
        lines = (await self.envoys[envoy].admin(f"/stats?filter=^{pattern}$")).splitlines()
        return sum(int(line.rpartition(": ")[2]) for line in lines if line.rpartition(": ")[2].isdigit())

    async def logged(self, file: str, text: str) -> None:
        """Wait for a text in a file that an Envoy writes; it does so every few seconds."""
        written = self.folder / file
        await until(lambda: written.exists() and text in written.read_text(), f"{text} in {file}", 12)

    def path(self, name: str) -> str:
        """A file of the rig's folder."""
        return str(self.folder / name)


async def _warm(envoy: RunningEnvoy, wanted: Container[str]) -> bool:
    """Whether no listener is warming, nor a cluster that is wanted: one that lingers may do so for ever."""
    gauges = "listener_manager.total_listeners_warming|cluster_manager.warming_clusters"
    said = await envoy.admin(f"/stats?filter=^({gauges})$")
    if all(line.endswith(": 0") for line in said.splitlines()):
        return True
    if not said.rstrip().endswith("total_listeners_warming: 0"):
        return False
    dump = json.loads(await envoy.admin("/config_dump?resource=dynamic_warming_clusters"))
    return not any(one["cluster"]["name"] in wanted for one in dump.get("configs", ()))


@contextlib.asynccontextmanager
async def _proxy(
    rig: Rig, own: Path, who: tuple[str, str, str], *, capture: str = "NONE", home: str = "default"
) -> AsyncIterator[RunningEnvoy]:
    """A proxy with its agent, of a kind, name and account, in the namespace ``home``; ``own`` is its folder."""
    kind, name, account = who
    async with contextlib.AsyncExitStack() as stack:
        identity = rig.mesh.of(f"cluster.local/ns/{home}/sa/{account}")
        agent = await _agent(rig, identity, own / "sds.sock")
        stack.push_async_callback(agent.stop)
        more = _bootstrap(rig, kind, f"{name}.{home}", own / "sds.sock", _authentic(rig, identity))
        more["node"]["metadata"]["INTERCEPTION_MODE"] = capture
        stack.push_async_callback((await _keys(rig, own / "keys.sock")).stop)
        started = real_envoy.envoy(own, rig.xds_port, delta=True, more=more, environment=_environment(more))
        yield await stack.enter_async_context(started)


def _bootstrap(rig: Rig, kind: str, name: str, sds: Path, own_socket: Document) -> Document:
    said = json.loads(json.dumps(real_envoy.bootstrap(sds, rig.xds_port, delta=True)))
    agent = {**said["static_resources"]["clusters"][0], "name": names.CLUSTER_SDS}
    said["static_resources"]["clusters"][0]["transport_socket"] = own_socket
    place = {"endpoint": {"address": {"pipe": {"path": str(sds)}}}}
    agent["load_assignment"] = {"cluster_name": names.CLUSTER_SDS, "endpoints": [{"lb_endpoints": [place]}]}
    keys = {**json.loads(json.dumps(agent)), "name": names.CLUSTER_CREDENTIALS}
    keys["load_assignment"]["endpoints"][0]["lb_endpoints"] = [
        {"endpoint": {"address": {"pipe": {"path": str(sds.with_name("keys.sock"))}}}}
    ]
    app, _, _ = name.partition("-")
    home = name.rpartition(".")[2]
    metadata = {
        "NAMESPACE": home,
        "LABELS": {"app": app, "role": app},
        "ROLE": app,
        "MESH_ID": "m1",
        "credential": "true",
    }
    own = address(world.ADDRESSES[app])
    runtime: Document = {"re2.max_program_size.error_level": "32768"}
    for tracer in ("zipkin", "opentelemetry"):
        runtime |= {f"tracing.{tracer}.flush_interval_ms": 50, f"tracing.{tracer}.min_flush_spans": 1}
    return {
        "node": {
            "id": f"{kind}~{own}~{name}~{home}.svc.cluster.local",
            "cluster": f"{app}.{home}",
            "metadata": {**metadata, "ISTIO_VERSION": "1.30.0"},
            "locality": {"region": "r1", "zone": "z1", "sub_zone": "s1"},
        },
        "static_resources": {"clusters": [*said["static_resources"]["clusters"], agent, keys]},
        "layered_runtime": {"layers": [{"name": "static", "static_layer": runtime}]},
        "cluster_manager": {"enable_deferred_cluster_creation": False},
    }


def _environment(said: Mapping[str, Any]) -> dict[str, str]:
    """What the agent sets for its Envoy."""
    node = said["node"]
    return telemetry.environment(node["metadata"]) | telemetry.service(node["cluster"], {})


def _authentic(rig: Rig, identity: tuple[Path, Path]) -> Document:
    """The transport socket of a proxy's xDS: it shows this certificate (and its key)."""
    chain, key = identity
    files = {"certificate_chain": {"filename": str(chain)}, "private_key": {"filename": str(key)}}
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "common_tls_context": {
                "alpn_protocols": ["h2"],
                "tls_certificates": [files],
                "validation_context": {"trusted_ca": {"filename": str(rig.mesh.root)}},
            },
        },
    }


async def _agent(rig: Rig, identity: tuple[Path, Path], path: Path) -> SdsServer:
    """The agent's SDS, with this certificate (and its key)."""
    chain, key = identity
    known = secrets.Secrets()
    known.publish(
        secrets.certificate(names.RESOURCE_WORKLOAD, chain.read_bytes(), key.read_bytes()),
        secrets.roots(names.RESOURCE_ROOT, rig.mesh.root.read_bytes()),
    )
    served = SdsServer(known, str(path))
    await served.start()
    return served


async def _keys(rig: Rig, path: Path) -> SdsServer:
    """Somebody else's SDS in the pod, with the certificate of a.example and who vouches for its clients."""
    served = SdsServer(_kept(rig.folder), str(path))
    await served.start()
    return served


def _kept(folder: Path) -> secrets.Secrets:
    known = secrets.Secrets()
    chain, key, roots = ((folder / name).read_bytes() for name in ("a.example.pem", "a.example.key", "roots.pem"))
    known.publish(secrets.certificate("sds://outside", chain, key), secrets.roots("sds://outside-cacert", roots))
    return known


async def _listen(rig: Rig, stack: contextlib.AsyncExitStack) -> None:
    """All servers, at their addresses."""
    issued = {name: rig.roots.issue(name, *more) for name, more in world.CERTIFICATES.items()}
    rig.strangers.issue("stranger.example")
    rig.roots.revoke("some.crl", issued["revoked.example"], issued["external.example"])
    rig.texts |= pki.digests(issued["client.example"])
    rig.texts |= pki.encoded(rig.folder, *issued, "roots")
    web = Listening.of(rig.path("external.example.pem"), rig.path("external.example.key"), rig.path("roots.pem"))
    mesh: ssl.SSLContext = Listening.of(
        *map(str, rig.mesh.of("cluster.local/ns/default/sa/mesh")), str(rig.mesh.root), alpn=("istio", "istio-http/1.1")
    )
    for place in ((address(world.FULL), world.APP), ("127.0.0.1", rig.ports["full"])):
        full = stack.enter_context(socket.socket())
        full.bind(place)
        full.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.settimeout(0)
            waiting.connect_ex(place)
    for server in (
        await rig.servers.http("local", "127.0.0.1", rig.ports["local"]),
        await rig.servers.tcp("local", "127.0.0.1", rig.ports["locallines"]),
    ):
        stack.callback(server.close)
    for name, number in world.SERVERS.items():
        made = [
            await rig.servers.http(name, address(number), world.APP),
            await rig.servers.http(name, address(number), world.SECOND_APP),
            await rig.servers.tcp(name, address(number), world.LINES),
            await rig.servers.http(name, address(number), world.TLS, web),
            await rig.servers.http(name, address(number), world.MESH_TLS, mesh),
        ]
        for server in made:
            stack.callback(server.close)


@contextlib.asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Rig]:
    """The rig from its start to its end."""
    rig = Rig(folder)
    async with contextlib.AsyncExitStack() as stack:
        await _listen(rig, stack)
        rig.base(rig.read(world.text()))
        rig.pipeline.open()
        rig.pipeline.push()
        chain, key = rig.mesh.of("cluster.local/ns/istio-system/sa/istiod")
        context = tls.context(key.read_bytes(), chain.read_bytes(), rig.mesh.root.read_bytes())
        served = serving.Running(rig.service, context=lambda: context)
        stack.push_async_callback(served.stop)
        rig.xds_port = served.port
        for kind, name, account in world.PROXIES:
            app, _, _ = name.partition("-")
            own = folder / app
            own.mkdir()
            rig.envoys[app] = await stack.enter_async_context(_proxy(rig, own, (kind, name, account)))

        async def connected_all() -> bool:
            return len(rig.service.status()) == len(world.PROXIES) and await rig.at_work()

        await until(connected_all, "all proxies are connected", 60)
        yield rig
