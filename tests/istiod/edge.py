"""A real Envoy as a gateway, replicas of istiod as processes that read one folder, and apps: no namespaces, no root.

The gateway's listener is bound where its Gateway says, so that nothing has to be captured. Replicas stand behind one
address, as behind a Service: a connection goes to one that takes it, and ends with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from bench.objects import Document
from crds.parse import parse
from e2e.harness.ports import free_ports
from istiod.config.proxy import Peer, Proxy
from istiod.config.resource import ResourceSet
from istiod.config.store import ConfigStore
from istiod.debug import dumps
from istiod.pipeline import Pipeline
from tests.ads import real_envoy
from tests.ads.real_envoy import RunningEnvoy
from tests.waiting import until
from wire import names, node

NAMESPACE = "demo"
ID = f"router~127.0.0.1~edge.{NAMESPACE}~{NAMESPACE}.svc.cluster.local"
METADATA = {"NAMESPACE": NAMESPACE, "LABELS": {"app": "edge"}}
WEB = f"outbound|80||web.{NAMESPACE}.svc.cluster.local"
Dump = dict[str, dict[str, Any]]
ACCEPT_WITHIN = 110.0
"""Seconds that a replica may take to start on a busy machine."""


def document(kind: str, name: str, group: str = "networking.istio.io/v1", **fields: Any) -> Document:
    """An object of the namespace."""
    return {"apiVersion": group, "kind": kind, "metadata": {"name": name, "namespace": NAMESPACE}, **fields}


def gateway(port: int) -> Document:
    """The gateway on a port of this machine."""
    server = {"port": {"number": port, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
    return document("Gateway", "edge", spec={"selector": {"app": "edge"}, "servers": [server]})


def rule(timeout: int = 9, **route: Any) -> Document:
    """All requests to web."""
    to = [{"destination": {"host": "web", "port": {"number": 80}}}]
    http = [{"timeout": f"{timeout}s", "route": to, **route}]
    return document("VirtualService", "edge", spec={"hosts": ["*"], "gateways": ["edge"], "http": http})


def service(name: str = "web") -> Document:
    """A Service whose endpoints are given."""
    spec = {"clusterIP": "10.96.0.1", "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}
    return document("Service", name, "v1", spec=spec)


def endpoints(port: int, ready: Iterable[str], unready: Iterable[str] = (), name: str = "web") -> Document:
    """Its endpoints."""
    made = document("EndpointSlice", name, "discovery.k8s.io/v1")
    made["metadata"]["labels"] = {"kubernetes.io/service-name": name}
    made["addressType"] = "IPv4"
    made["ports"] = [{"name": "http", "port": port, "protocol": "TCP"}]
    made["endpoints"] = [
        {"addresses": [address], "conditions": {"ready": is_ready, "serving": is_ready}}
        for is_ready, addresses in ((True, ready), (False, unready))
        for address in addresses
    ]
    return made


def mesh_settings() -> Document:
    """Without mTLS: there is no agent here that would give certificates."""
    metadata = {"name": "istio", "namespace": names.ROOT_NAMESPACE}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"mesh": "enableAutoMtls: false"}}


class Truth:
    """The same objects in a pipeline of this process, which has had no faults: what the gateway should have."""

    def __init__(self) -> None:
        self._store = ConfigStore()
        self._pipeline = Pipeline(self._store, lambda _: None, time.monotonic)
        claims = node.parse(ID, METADATA)
        self._proxy = Proxy(peer=Peer(address="127.0.0.1:1", identity=None), node=claims)

    def put(self, given: Document) -> None:
        found = parse(given).object
        assert found is not None
        self._store.apply(found)

    def target(self) -> ResourceSet:
        self._pipeline.push()
        return self._pipeline.target(self._proxy)


def expected(target: ResourceSet) -> Dump:
    """Versions of clusters, listeners and routes that these name, which are hashes of their bytes; and endpoints."""
    used = {name for each in target.of(names.LISTENER) for name in each.refs.get(names.ROUTE, ())}
    kinds = (names.CLUSTER, names.LISTENER, names.ROUTE)
    found: Dump = {kind: {each.name: each.version for each in target.of(kind)} for kind in kinds}
    found[names.ROUTE] = {name: version for name, version in found[names.ROUTE].items() if name in used}
    found[names.ENDPOINT] = {given["cluster_name"]: _hosts(given) for given in dumps.load_assignments(target)}
    return found


def dumped(dump: Any) -> Dump:
    """The same of Envoy's /config_dump. What is warming stands under a name of its own."""
    clusters, listeners, routes, assignments = (
        next((c for c in dump["configs"] if c["@type"].endswith(f".{kind}ConfigDump")), {})
        for kind in ("Clusters", "Listeners", "Routes", "Endpoints")
    )
    return {
        names.CLUSTER: _versions(clusters, "dynamic_active_clusters", "cluster")
        | {f"warming {name}": v for name, v in _versions(clusters, "dynamic_warming_clusters", "cluster").items()},
        names.LISTENER: {
            f"{prefix}{each['name']}": each[state]["version_info"]
            for each in listeners.get("dynamic_listeners", ())
            for state, prefix in (("active_state", ""), ("warming_state", "warming "))
            if state in each
        },
        names.ROUTE: _versions(routes, "dynamic_route_configs", "route_config"),
        names.ENDPOINT: {
            each["endpoint_config"]["cluster_name"]: _hosts(each["endpoint_config"])
            for each in assignments.get("dynamic_endpoint_configs", ())
            if "|" in each["endpoint_config"]["cluster_name"]  # not that of no Service, which has none
        },
    }


def _versions(section: Any, group: str, kind: str) -> dict[str, Any]:
    return {each[kind]["name"]: each["version_info"] for each in section.get(group, ())}


def _hosts(assignment: Any) -> list[str]:
    """Addresses of an assignment."""
    return sorted(
        "{address}:{port_value}".format(**host["endpoint"]["address"]["socket_address"])
        for locality in assignment.get("endpoints", ())
        for host in locality.get("lb_endpoints", ())
    )


@dataclass(eq=False)
class Replica:
    """An istiod of its own process. ``serves``: it said that it is ready."""

    folder: Path
    home: Path
    grpc: int
    pages: int
    process: asyncio.subprocess.Process | None = None
    serves: bool = False

    async def start(self) -> None:
        """Start it; it is not ready yet."""
        command = [sys.executable, "-m", "istiod", "discovery", "--configDir", str(self.folder)]
        command += ["--grpcAddr", f"127.0.0.1:{self.grpc}", "--monitoringAddr", f"127.0.0.1:{self.pages}"]
        with (self.home / f"istiod-{self.grpc}.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)

    async def ready(self) -> bool:
        """Whether it serves."""
        assert self.process is not None
        assert self.process.returncode is None, (self.home / f"istiod-{self.grpc}.log").read_text()[-2_000:]
        async with aiohttp.ClientSession() as http:
            try:
                async with http.get(f"http://127.0.0.1:{self.pages}/ready") as answer:
                    self.serves = answer.status == 200
            except aiohttp.ClientError:
                self.serves = False
        return self.serves

    async def kill(self) -> None:
        """SIGKILL."""
        self.serves = False
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()


@dataclass
class Address:
    """Where the replicas are: a connection goes to one that is ready, in turn, and ends with it.

    ``heard``: when a replica last said its first word on a new connection. ``serving``: who has the newest connection.
    """

    replicas: list[Replica]
    heard: float = 0.0
    serving: Replica | None = None
    _open: set[asyncio.StreamWriter] = field(default_factory=set)
    _turn: int = 0

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for writer in self._open:
                writer.transport.abort()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._turn += 1
        count = len(self.replicas)
        for at in range(count):
            replica = self.replicas[(self._turn + at) % count]
            if not replica.serves:
                continue
            with contextlib.suppress(OSError):
                there, to = await asyncio.open_connection("127.0.0.1", replica.grpc)
                await self._join((reader, writer), (there, to), replica)
                break
        writer.transport.abort()

    async def _join(
        self,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        replica: Replica,
    ) -> None:
        both = {client[1], server[1]}
        self._open |= both
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._pump(client[0], server[1]))
            tasks.create_task(self._pump(server[0], client[1], replica))
        self._open -= both

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, replica: Replica | None = None
    ) -> None:
        first = replica is not None
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                if first:
                    self.heard, self.serving, first = time.monotonic(), replica, False
                writer.write(data)
                await writer.drain()
        writer.transport.abort()


class Edge:
    """All of it, running."""

    def __init__(self, folder: Path, replicas: list[Replica], address: Address, ports: tuple[int, int]) -> None:
        self.folder = folder
        self.replicas = replicas
        self.address = address
        self.port, self.app_port = ports
        self.truth = Truth()
        self.envoy: RunningEnvoy | None = None
        self.last: dict[str, Any] = {}

    @property
    def proxy(self) -> RunningEnvoy:
        """The gateway."""
        assert self.envoy is not None
        return self.envoy

    def put(self, given: Document) -> None:
        """Write an object."""
        self.truth.put(given)
        self.write(given)

    def write(self, given: Document) -> None:
        """Write an object that is not to stay: the truth does not hold it."""
        kind, name = given["kind"].lower(), given["metadata"]["name"]
        beside = self.folder / f".{kind}-{name}.yaml"
        beside.write_text(json.dumps(given))  # JSON is YAML
        beside.replace(self.folder / f"{kind}-{name}.yaml")

    async def connected(self) -> bool:
        """Whether the gateway has a stream."""
        return await self.proxy.stat("control_plane.connected_state") == 1

    async def differs(self) -> dict[str, Any]:
        """What the gateway should have and has, by type and name, where the two are not the same."""
        wanted = expected(self.truth.target())
        got = dumped(json.loads(await self.proxy.admin("/config_dump?include_eds")))
        return {
            f"{kind.rpartition('.')[2]} {name}": (wanted[kind].get(name), got[kind].get(name))
            for kind in wanted
            for name in wanted[kind].keys() | got[kind].keys()
            if wanted[kind].get(name) != got[kind].get(name)
        }

    async def same(self) -> bool:
        """Whether the gateway has what it should have; ``last`` says what not."""
        self.last = await self.differs()
        return not self.last

    async def agrees(self, seconds: float) -> None:
        """Wait until the gateway has what it should have."""
        try:
            await until(self.same, "the gateway has what it should have", seconds)
        except AssertionError as error:
            raise AssertionError(f"not in {seconds:g} s: {self.last}") from error


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An app: 200 to everything."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
    writer.close()


@contextlib.asynccontextmanager
async def apps(port: int, addresses: Iterable[str]) -> AsyncIterator[None]:
    """Apps on addresses of loopback."""
    async with contextlib.AsyncExitStack() as stack:
        for address in addresses:
            server = await asyncio.start_server(answer, address, port)
            stack.callback(server.close)
        yield


@contextlib.asynccontextmanager
async def edge(home: Path, count: int, objects: Iterable[Document], ports: tuple[int, int]) -> AsyncIterator[Edge]:
    """So many replicas, and the gateway on the first port; apps are on the second."""
    folder = home / "config"
    folder.mkdir()
    every = free_ports(2 * count)
    replicas = [Replica(folder, home, one, other) for one, other in zip(every[:count], every[count:], strict=True)]
    address = Address(replicas)
    made = Edge(folder, replicas, address, ports)
    for given in (mesh_settings(), gateway(ports[0]), service(), rule(), *objects):
        made.put(given)
    back_off = {"retry_back_off": {"base_interval": "0.5s", "max_interval": "5s"}}  # the agent's
    async with contextlib.AsyncExitStack() as stack:
        for replica in replicas:
            await replica.start()
            stack.push_async_callback(replica.kill)
        for replica in replicas:
            await until(replica.ready, "a replica is ready", ACCEPT_WITHIN)
        port = await stack.enter_async_context(address.listening())
        said = real_envoy.bootstrap(home, port, delta=True)
        resources = json.loads(json.dumps(said["dynamic_resources"]))
        resources["ads_config"]["grpc_services"] = [
            {"envoy_grpc": {"cluster_name": names.CLUSTER_XDS, "retry_policy": back_off}}
        ]
        more = {"node": {"id": ID, "cluster": "edge", "metadata": METADATA}, "dynamic_resources": resources}
        made.envoy = await stack.enter_async_context(real_envoy.envoy(home, port, delta=True, more=more))
        await made.agrees(ACCEPT_WITHIN)
        yield made
