"""``python -m bench.admissions``: how long admissions take at a given rate, and what they cost.

istiod is a process of its own that reads a folder. The client sends at fixed times, whether or not answers have come,
and a delay counts from the time at which a request was due: a server that stalls cannot hide it.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import json
import pathlib
import ssl
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

import aiohttp

from bench import calibration, processes

_INJECTOR: Final = """
apiVersion: v1
kind: ConfigMap
metadata: {name: istio-sidecar-injector, namespace: istio-system}
data: {values: "{global: {hub: registry.local/istio, tag: 1}}"}
"""
_PROBE: Final = {"httpGet": {"path": "/health", "port": 8080}, "periodSeconds": 5}


def pod(number: int) -> Mapping[str, Any]:
    """A pod as it comes from a Deployment: two containers, probes, volumes, an annotation or two."""
    app = {
        "name": "app",
        "image": "app:1",
        "ports": [{"containerPort": 8080, "name": "http"}],
        "readinessProbe": _PROBE,
    }
    app |= {"livenessProbe": _PROBE, "env": [{"name": f"VARIABLE_{i}", "value": "value" * 4} for i in range(20)]}
    labels = {"app": "web", "version": "v1", "pod-template-hash": "5d8fbc7f9"}
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d8fbc7f9", "controller": True, "uid": "u"}
    metadata = {"generateName": "web-5d8fbc7f9-", "labels": labels, "ownerReferences": [owner]}
    metadata |= {
        "annotations": {"proxy.istio.io/config": "concurrency: 2", "sidecar.istio.io/proxyCPU": f"{number % 9 + 1}0m"}
    }
    spec = {"containers": [app, {"name": "log", "image": "log:1"}], "volumes": [{"name": "v", "emptyDir": {}}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def rule(number: int) -> Mapping[str, Any]:
    """A VirtualService with ten routes."""
    routes = [
        {"match": [{"uri": {"prefix": f"/{i}"}}], "route": [{"destination": {"host": "web", "subset": f"v{i}"}}]}
        for i in range(10)
    ]
    metadata = {"name": f"web-{number}", "namespace": "demo"}
    spec = {"hosts": [f"web-{number}"], "http": routes}
    return {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": metadata, "spec": spec}


def review(item: Mapping[str, Any], number: int) -> Mapping[str, Any]:
    """What an API server sends."""
    group, _, version = str(item["apiVersion"]).rpartition("/")
    kind = {"group": group, "version": version, "kind": item["kind"]}
    request = {"uid": f"u{number}", "kind": kind, "operation": "CREATE", "namespace": "demo", "object": item}
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


def large() -> Mapping[str, Any]:
    """A VirtualService of 0.5 MB, which takes seconds to judge (fault FT42)."""
    routes = [
        {"match": [{"uri": {"exact": f"/{i:06}"}}], "route": [{"destination": {"host": "web"}}]} for i in range(5000)
    ]
    return {**rule(0), "spec": {"hosts": ["large"], "http": routes}}


async def occupy(client: aiohttp.ClientSession, url: str) -> None:
    """Have the validator judge a large object, again and again."""
    body = json.dumps(review(large(), 0)).encode()
    while True:
        async with client.post(f"{url}/validate", data=body, headers={"Content-Type": "application/json"}) as answer:
            await answer.read()


async def measure(
    url: str, roots: pathlib.Path, rate: int, seconds: int, *, slow: bool = False
) -> dict[str, list[float]]:
    """Delays in milliseconds: of each third request one validates, the others inject.

    ``slow``: beside them the validator has a large object to judge all the time.
    """
    delays: dict[str, list[float]] = {"inject": [], "validate": []}
    trust = ssl.create_default_context(cafile=str(roots))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust, limit=50)) as client:

        async def ask(number: int, due: float) -> None:
            path, item = ("validate", rule(number)) if number % 3 == 0 else ("inject", pod(number))
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            async with client.post(f"{url}/{path}?timeout=10s", json=review(item, number)) as answer:
                found = await answer.json()
            if not found["response"]["allowed"]:
                raise processes.BenchError(str(found))
            delays[path].append((time.perf_counter() - due) * 1000)

        await asyncio.gather(*(ask(n, time.perf_counter()) for n in range(20)))  # connections, and code read once
        for each in delays.values():
            each.clear()
        beside = [asyncio.create_task(occupy(client, url))] if slow else []
        start = time.perf_counter() + 0.5
        await asyncio.gather(*(ask(n, start + n / rate) for n in range(rate * seconds)))
        for each in beside:
            each.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
    return delays


def lines(delays: Mapping[str, list[float]], cost: float, factor: float) -> Iterator[str]:
    """What was measured, for people."""
    yield f"{'':10}{'count':>8}{'p50 ms':>10}{'p99 ms':>10}{'max ms':>10}"
    for name, each in {**delays, "both": [delay for of in delays.values() for delay in of]}.items():
        one = sorted(each)
        p50, p99 = one[len(one) // 2], one[min(len(one) - 1, len(one) * 99 // 100)]
        yield f"{name:10}{len(one):8}{p50:10.1f}{p99:10.1f}{one[-1]:10.1f}"
    count = sum(len(each) for each in delays.values())
    yield f"istiod: {cost / count * 1000:.2f} ms of CPU per admission; calibration factor {factor:.2f}"


def main() -> int:
    """Run; 1 where an admission failed."""
    top = argparse.ArgumentParser(prog="bench.admissions", description=__doc__)
    top.add_argument("--rate", type=int, default=100, help="admissions per second")
    top.add_argument("--seconds", type=int, default=20)
    top.add_argument("--slow", action="store_true", help="have the validator judge large objects beside them")
    asked = top.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = pathlib.Path(folder)
        (home / "config").mkdir()
        (home / "config" / "injector.yaml").write_text(_INJECTOR)
        https, pages = (f"127.0.0.1:{processes.free_port()}" for _ in range(2))
        command = [sys.executable, "-m", "istiod", "discovery", "--configDir", str(home / "config")]
        command += ["--caDir", str(home / "ca"), "--httpsAddr", https, "--monitoringAddr", pages]
        istiod = processes.start(command, home / "istiod.log")
        try:
            findings = f"http://{pages}/debug/diagnosticsz"
            processes.until("istiod answers", lambda: processes.fetch(findings) is not None)
            processes.until("the CA is there", (home / "ca" / "root-cert.pem").exists)
            url = f"https://localhost:{https.rpartition(':')[2]}"
            before, since = processes.cpu(istiod.pid), dt.datetime.now(dt.UTC)
            delays = asyncio.run(
                measure(url, home / "ca" / "root-cert.pem", asked.rate, asked.seconds, slow=asked.slow)
            )
            cost = processes.cpu(istiod.pid) - before
            print(f"{asked.rate}/s for {asked.seconds} s, {since:%Y-%m-%d}")
            print(*lines(delays, cost, calibration.calibrate().factor), sep="\n")
        except (processes.BenchError, aiohttp.ClientError) as error:
            print(f"bench: {error}\n{(home / 'istiod.log').read_text()[-2000:]}", file=sys.stderr)
            return 1
        finally:
            processes.stop(istiod)
    return 0


if __name__ == "__main__":
    sys.exit(main())
