"""A pod's worth of agent for tests: a CA on loopback, a folder with token and roots, free ports, the real program."""

import asyncio
import contextlib
import datetime as dt
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from cryptography.hazmat.primitives.asymmetric import ec
from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.access_loggers.file.v3 import file_pb2
from envoy.extensions.filters.http.fault.v3 import fault_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import json_format

from agent import httpwire
from e2e.harness.ports import free_ports
from istiod.ads.server import AdsService
from istiod.ca import authority, server, serving, tokens
from istiod.grpcserver.server import Server
from wire import names
from wire.spiffe import Identity

assert router_pb2
assert fault_pb2
assert file_pb2
assert http_connection_manager_pb2  # these only so that JSON may name their types

ROOT = Path(__file__).resolve().parents[2]


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def free_port() -> int:
    return free_ports(1)[0]


@dataclass
class Istiod:
    """The two servers of istiod that a proxy talks to; xDS holds one listener once ``serve`` is set."""

    ca: authority.Authority
    key: ec.EllipticCurvePrivateKey
    ca_port: int = 0
    xds_port: int = 0
    listener_port: int = 0
    serve: asyncio.Event = field(default_factory=asyncio.Event)
    delay: float = 0.0
    """Seconds that the listener takes for each answer."""
    peers: list[str] = field(default_factory=list)
    nodes: list[Any] = field(default_factory=list)
    ads: AdsService | None = None
    tokens: list[str] = field(default_factory=list)
    """What was shown to the CA."""

    async def verify(self, token: str) -> Identity | None:
        self.tokens.append(token)
        return await tokens.LocalTokenVerifier(self.key.public_key(), "cluster.local", now).verify(token)

    async def stream(self, requests: AsyncIterator[discovery_pb2.DeltaDiscoveryRequest], context: Any) -> None:
        self.peers.extend(value.decode() for value in context.auth_context().get("peer_spiffe_id", ()))
        async for request in requests:
            if request.node.id:
                self.nodes.append(request.node)
            if request.response_nonce:
                continue
            await self.serve.wait()
            answer = discovery_pb2.DeltaDiscoveryResponse(type_url=request.type_url, nonce="1")
            if request.type_url == names.LISTENER:
                resource = answer.resources.add(name="inbound", version="1")
                resource.resource.Pack(
                    json_format.ParseDict(inbound(self.listener_port, self.delay), listener_pb2.Listener())
                )
            await context.write(answer)


def inbound(port: int, delay: float = 0.0) -> dict[str, Any]:
    waits = {"fixed_delay": f"{delay}s", "percentage": {"numerator": 100}}
    fault = {"@type": names.TYPE_PREFIX + "envoy.extensions.filters.http.fault.v3.HTTPFault", "delay": waits}
    log = {
        "@type": names.TYPE_PREFIX + "envoy.extensions.access_loggers.file.v3.FileAccessLog",
        "path": "/dev/stdout",
        "log_format": {"text_format_source": {"inline_string": "%REQ(:PATH)% %RESPONSE_CODE%\n"}},
    }
    manager = {
        "access_log": [{"name": "envoy.access_loggers.file", "typed_config": log}],
        "@type": names.TYPE_PREFIX
        + "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "inbound",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [
                        {
                            "match": {"prefix": "/"},
                            "direct_response": {"status": 200, "body": {"inline_string": "hello"}},
                        }
                    ],
                }
            ]
        },
        "http_filters": [
            *([{"name": "envoy.filters.http.fault", "typed_config": fault}] if delay else []),
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
            },
        ],
    }
    return {
        "name": "inbound",
        "traffic_direction": "INBOUND",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }


def credentials(material: authority.Material) -> grpc.ServerCredentials:
    """Of a server that asks for a client's certificate."""
    chain = material.certificate + material.chain
    return grpc.ssl_server_credentials([(material.key, chain)], material.roots, require_client_auth=True)


Certified = Callable[[authority.Authority], serving.ServingCertificate]


def certified(ca: authority.Authority) -> serving.ServingCertificate:
    """What istiod's servers show."""
    return serving.ServingCertificate(ca, now)


@contextlib.asynccontextmanager
async def istiod(
    ca: Certified = certified, xds: Certified = certified, ads: AdsService | None = None
) -> AsyncIterator[Istiod]:
    """Both servers; ``ca`` and ``xds`` make what they show of themselves. ``ads`` is served beside the CA."""
    found = Istiod(
        authority.Authority(authority.self_signed("cluster.local", now())),
        ec.generate_private_key(ec.SECP256R1()),
        ads=ads,
    )
    service = server.CertificateService(found.ca, found, now)
    streams_by_token = found.ads.methods(found) if found.ads is not None else {}
    certificates = Server({**service.methods(), **streams_by_token})
    found.ca_port = certificates.listen("127.0.0.1:0", ca(found.ca).context)
    streams = grpc.aio.server()
    method = grpc.stream_stream_rpc_method_handler(
        found.stream,
        request_deserializer=discovery_pb2.DeltaDiscoveryRequest.FromString,
        response_serializer=discovery_pb2.DeltaDiscoveryResponse.SerializeToString,
    )
    streams.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(
                "envoy.service.discovery.v3.AggregatedDiscoveryService", {"DeltaAggregatedResources": method}
            ),
        )
    )
    found.xds_port = streams.add_secure_port("127.0.0.1:0", credentials(xds(found.ca).material))
    found.listener_port = free_port()
    await streams.start()
    try:
        yield found
    finally:
        await streams.stop(None)
        await certificates.stop(0)


@dataclass(kw_only=True)
class Ports:
    """Free ports in place of the usual ones."""

    admin: int = field(default_factory=free_port)
    status: int = field(default_factory=free_port)
    readiness: int = field(default_factory=free_port)
    prometheus: int = field(default_factory=free_port)

    async def get(self, port: int, path: str, method: str = "GET") -> httpwire.Response:
        return await httpwire.request(httpwire.Target("127.0.0.1", port), method, path)

    async def status_code(self, port: int, path: str) -> int:
        try:
            return (await self.get(port, path)).status
        except httpwire.HttpError:
            return 0

    async def ready(self) -> bool:
        return await self.status_code(self.readiness, "/healthz/ready") == 200


@dataclass(kw_only=True)
class Pod(Ports):
    """A running ``pilot-agent proxy`` and its ports."""

    folder: Path
    process: asyncio.subprocess.Process

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def envoy_pid(self) -> int:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0]) if children else 0

    def envoy_status(self) -> str:
        return Path(f"/proc/{self.envoy_pid()}/status").read_text()


def prepare(folder: Path, control: Istiod, ports: Ports) -> dict[str, str]:
    """The pod's files; gives the environment."""
    write_token(folder / "var/run/secrets/tokens/istio-token", control)
    write(folder / "var/run/secrets/istio/root-cert.pem", control.ca.roots)
    write(folder / "etc/istio/pod/labels", 'app="sleep"\nversion="v1"')
    config = {
        "discoveryAddress": f"127.0.0.1:{control.xds_port}",
        "proxyAdminPort": ports.admin,
        "statusPort": ports.status,
        "concurrency": 1,
        "drainDuration": "2s",
        "terminationDrainDuration": "1s",
    }
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "CA_ADDR": f"127.0.0.1:{control.ca_port}",
        "PROXY_CONFIG": json.dumps(config),
        "POD_NAME": "sleep-1",
        "POD_NAMESPACE": "default",
        "SERVICE_ACCOUNT": "sleep",
        "INSTANCE_IP": "127.0.0.1",
        "ENVOY_STATUS_PORT": str(ports.readiness),
        "ENVOY_PROMETHEUS_PORT": str(ports.prometheus),
    }


@contextlib.asynccontextmanager
async def pod(
    folder: Path, control: Istiod, *before: str, kind: str = "sidecar", **environment: str
) -> AsyncIterator[Pod]:
    """The program as a process; ``before`` goes before its command."""
    ports = Ports()
    given = prepare(folder, control, ports) | environment
    command = (sys.executable, "-m", "agent", "proxy", kind, "--domain", "default.svc.cluster.local")
    with (folder / "stdout").open("wb") as stdout, (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *before, *command, cwd=folder, env=given, stdout=stdout, stderr=log, start_new_session=True
        )
    found = Pod(folder=folder, process=process, **vars(ports))
    try:
        yield found
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), 15)
            except TimeoutError:
                process.kill()
                await process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # an Envoy that outlives its agent


def write_token(path: Path, control: Istiod) -> None:
    account = tokens.Account(namespace="default", service_account="sleep", pod="sleep-1")
    write(path, tokens.mint(control.key, account, now()))


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
