"""``python -m bench.signings``: how long certificates take at a given rate, and what configuration feels of it.

istiod is a process of its own that reads a folder. CSRs are sent at fixed times, each over a TLS connection of its own,
as agents do, and a delay counts from the time at which a request was due. They come from a
process of their own, whose handshakes are as dear as istiod's. Meanwhile a client of xDS waits for changes of a
ServiceEntry, as it did before without the load.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime as dt
import multiprocessing
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Final

import grpc
import grpc.aio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2

from bench import calibration, processes
from istiod.ca import tokens
from protos import ca_pb2
from wire import names

METHOD: Final = "/istio.v1.auth.IstioCertificateService/CreateCertificate"
SERVICES: Final = 100
_PAUSE: Final = 0.25
_FIRST: Final = 20
_OPTIONS: Final = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0))


def entry(change: int) -> str:
    """A mesh whose first host changes its port."""
    hosts = [(f"host-{i}.example", 80 if i else 1000 + change) for i in range(SERVICES)]
    made = (
        f"apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: e{i}, namespace: default}}\n"
        f"spec: {{hosts: [{host}], location: MESH_EXTERNAL, resolution: DNS, "
        f"ports: [{{number: {port}, name: http, protocol: HTTP}}]}}\n"
        for i, (host, port) in enumerate(hosts)
    )
    return "---\n".join(made)


class Istiod:
    """The process and its files."""

    def __init__(self, home: pathlib.Path) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.roots = home / "ca" / "root-cert.pem"
        self.config = home / "config" / "mesh.yaml"
        self.config.parent.mkdir()
        self.change(0)
        public = self.key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        (home / "key.pub").write_bytes(public)
        self.secure, self.plain, pages = (f"127.0.0.1:{processes.free_port()}" for _ in range(3))
        self.log = home / "istiod.log"
        command = [sys.executable, "-m", "istiod", "discovery", "--configDir", str(self.config.parent)]
        command += ["--caDir", str(home / "ca"), "--tokenKey", str(home / "key.pub"), "--monitoringAddr", pages]
        command += ["--secureGRPCAddr", self.secure, "--grpcAddr", self.plain]
        self.process = processes.start(command, self.log)
        findings = f"http://{pages}/debug/diagnosticsz"
        processes.until("istiod answers", lambda: processes.fetch(findings) is not None)
        processes.until("the CA is there", self.roots.exists)

    def change(self, number: int) -> None:
        """Change the mesh."""
        new = self.config.with_suffix(".new")
        new.write_text(entry(number))
        new.replace(self.config)


async def converge(istiod: Istiod, changes: int) -> list[float]:
    """Milliseconds from each change to its cluster at a client of xDS."""
    found = []
    async with grpc.aio.insecure_channel(istiod.plain, _OPTIONS) as channel:
        call = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel).DeltaAggregatedResources()
        first: Any = discovery_pb2.DeltaDiscoveryRequest(type_url=names.CLUSTER)
        first.node.id = "sidecar~10.0.0.1~app.default~default.svc.cluster.local"
        await call.write(first)

        async def until(name: str) -> None:
            while True:
                answer: Any = await call.read()
                if answer is grpc.aio.EOF:
                    raise processes.BenchError("the stream of xDS ended")
                ack = discovery_pb2.DeltaDiscoveryRequest(type_url=names.CLUSTER, response_nonce=answer.nonce)
                await call.write(ack)
                if any(name in each.name for each in answer.resources):
                    return

        number = time.time_ns() // 1_000_000 % 10_000
        await until("host-")
        for _ in range(changes):
            await asyncio.sleep(_PAUSE)
            number += 1
            began = time.perf_counter()
            istiod.change(number)
            async with asyncio.timeout(30):
                await until(f"outbound|{1000 + number}|")
            found.append((time.perf_counter() - began) * 1000)
    return found


def csr() -> str:
    """A request of an agent; one for all: its key costs the client's CPU, not istiod's."""
    made = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    signed = made.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Agents:
    """Who asks for certificates: where, how often, and with what."""

    address: str
    roots: bytes
    token: str
    rate: int
    """Requests per second."""

    async def ask(self, enough: Callable[[int], bool]) -> list[float]:
        """Delays in milliseconds, until as many as were made are ``enough``."""
        credentials = grpc.ssl_channel_credentials(self.roots)
        request = ca_pb2.IstioCertificateRequest(csr=csr(), validity_duration=86_400)
        delays: list[float] = []
        tasks: list[asyncio.Task[None]] = []

        async def ask(due: float) -> None:
            async with grpc.aio.secure_channel(self.address, credentials, _OPTIONS) as channel:
                create = channel.unary_unary(
                    METHOD,
                    request_serializer=ca_pb2.IstioCertificateRequest.SerializeToString,
                    response_deserializer=ca_pb2.IstioCertificateResponse.FromString,
                )
                await create(request, metadata=(("authorization", f"Bearer {self.token}"),), timeout=30)
            delays.append((time.perf_counter() - due) * 1000)

        start = time.perf_counter()
        while not enough(len(tasks)):
            due = start + len(tasks) / self.rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.append(asyncio.create_task(ask(due)))
        await asyncio.gather(*tasks)
        return delays


def asking(agents: Agents, talk: Connection) -> None:
    """The process of agents: says when it begins, asks until it is told anything, says the delays or what was wrong."""
    talk.send(None)
    try:
        talk.send(asyncio.run(agents.ask(lambda _: talk.poll())))
    except grpc.aio.AioRpcError as error:
        talk.send(f"{error.code().name}: {error.details()}")


@contextlib.asynccontextmanager
async def beside(agents: Agents, delays: list[float]) -> AsyncIterator[None]:
    """Ask for certificates until the block ends.

    Raises:
        processes.BenchError: one was refused.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=asking, args=(agents, there), daemon=True)
    process.start()
    await asyncio.to_thread(here.recv)
    try:
        yield
    finally:
        here.send(None)
        found = await asyncio.to_thread(here.recv)
        process.join()
    if isinstance(found, str):
        raise processes.BenchError(f"a certificate was refused: {found}")
    delays.extend(found)


def quantiles(name: str, each: list[float]) -> str:
    """A line for people."""
    one = sorted(each)
    p50, p99 = statistics.median(one), one[min(len(one) - 1, len(one) * 99 // 100)]
    return f"{name:28}{len(one):8}{p50:10.1f}{p99:10.1f}{one[-1]:10.1f}"


async def measure(istiod: Istiod, rate: int, changes: int) -> Iterator[str]:
    """Lines for people."""
    account = tokens.Account(namespace="default", service_account="app")
    token = tokens.mint(istiod.key, account, dt.datetime.now(dt.UTC))
    roots = istiod.roots.read_bytes()
    agents = Agents(address=istiod.secure, roots=roots, token=token, rate=rate)
    await agents.ask(lambda made: made >= _FIRST)  # code read once
    quiet = await converge(istiod, changes)
    delays: list[float] = []
    async with beside(agents, delays):
        before, began = processes.cpu(istiod.process.pid), time.perf_counter()
        loaded = await converge(istiod, changes)
    cost, took = processes.cpu(istiod.process.pid) - before, time.perf_counter() - began
    ratio = statistics.median(loaded) / statistics.median(quiet)
    per = cost / len(delays) * 1000
    return iter(
        (
            f"{'':28}{'count':>8}{'p50 ms':>10}{'p99 ms':>10}{'max ms':>10}",
            quantiles("certificates", delays),
            quantiles("xDS without them", quiet),
            quantiles("xDS beside them", loaded),
            f"{len(delays) / took:.0f}/s; {per:.2f} ms of istiod's CPU per certificate; convergence {ratio:.2f} times",
            f"calibration factor {calibration.calibrate().factor:.2f}",
        )
    )


def main() -> int:
    """Run; 1 where a certificate was refused."""
    top = argparse.ArgumentParser(prog="bench.signings", description=__doc__)
    top.add_argument("--rate", type=int, default=200, help="certificates per second")
    top.add_argument("--changes", type=int, default=40, help="changes of configuration, with the load and without")
    asked = top.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        istiod = Istiod(pathlib.Path(folder))
        try:
            print(f"{asked.rate}/s, {dt.datetime.now(dt.UTC):%Y-%m-%d}")
            print(*asyncio.run(measure(istiod, asked.rate, asked.changes)), sep="\n")
        except (processes.BenchError, grpc.aio.AioRpcError) as error:
            print(f"bench: {error}\n{istiod.log.read_text()[-2000:]}", file=sys.stderr)
            return 1
        finally:
            processes.stop(istiod.process)
    return 0


if __name__ == "__main__":
    sys.exit(main())
