"""What it costs to list a cluster and to build the mesh of it: ``python -m bench.listing [PODS]``.

Lists from bench.cluster_api, a process of its own, with the client and the watch that istiod runs. Issue 5 allows 20 s
of CPU and 400 MB for 10,000 pods. RSS is that of the whole process, and its highest.
"""

from __future__ import annotations

import asyncio
import gc
import resource
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import processes
from istiod.app import GENERATIONS
from istiod.config.store import ConfigStore
from istiod.kube import credentials
from istiod.kube.client import KubernetesClient
from istiod.pipeline import Pipeline
from istiod.watch import kinds
from istiod.watch.kubernetes import ClusterWatch
from istiod.watch.objects import ObjectSet, Place

KUBECONFIG = """
current-context: c
contexts: [{{name: c, context: {{cluster: c, user: u}}}}]
clusters: [{{name: c, cluster: {{server: "http://127.0.0.1:{port}"}}}}]
users: [{{name: u, user: {{token: bench}}}}]
"""
PLACE = Place(root_namespace="istio-system", revision="default", mesh_config="istio", config_maps=frozenset({"istio"}))


def listens(server: subprocess.Popen[bytes], port: int) -> bool:
    """Whether a server takes connections.

    Raises:
        BenchError: it has ended.
    """
    if (status := server.poll()) is not None:
        raise processes.BenchError(f"the API server ended with {status}")
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def rss() -> float:
    """Memory of this process now, in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


async def measure(port: int) -> None:
    """List, build, and print what it took."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(KUBECONFIG.format(port=port))
        file.flush()
        client = KubernetesClient(lambda: credentials.login(file.name))
        store = ConfigStore()
        pipeline = Pipeline(store, lambda _: None, time.monotonic, pods_known=True)
        watch = ClusterWatch(client, ObjectSet(PLACE), store, kinds.watched("istio-system"), lambda _: None)
        before, started = time.process_time(), time.monotonic()
        listed = asyncio.Event()
        running = asyncio.create_task(watch.run(listed.set))
        await listed.wait()
        listing = time.process_time() - before
        pipeline.push()
        whole = time.process_time() - before
        await asyncio.sleep(1)
        memory = rss()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        print(
            f"{len(tuple(store.keys()))} objects: listed in {listing:.1f} s of CPU, modelled in {whole:.1f} s "
            f"({time.monotonic() - started - 1:.1f} s of time); RSS {memory:.0f} MB, highest {peak:.0f} MB"
        )
        running.cancel()
        await asyncio.wait((running,))
        await client.close()


def main() -> None:
    """Run both processes."""
    gc.set_threshold(*GENERATIONS)
    pods, port = sys.argv[1] if len(sys.argv) > 1 else "10000", processes.free_port()
    with subprocess.Popen([sys.executable, "-m", "bench.cluster_api", str(port), pods]) as server:
        try:
            processes.until("the API server listens", lambda: listens(server, port), patience=60)
            asyncio.run(measure(port))
        finally:
            server.kill()


if __name__ == "__main__":
    main()
