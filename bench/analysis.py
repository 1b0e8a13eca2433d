"""``python -m bench.analysis [SERVICES] [SHAPE ...]``: what a run of the analyzers costs.

Each Service has a Deployment of two pods with an account of its own, and rules; a shape says which. CPU seconds of one
run (``time.process_time``), and of the analyzers that cost most; what is linear takes half of it with half as many
Services, which is measured too.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from bench import calibration, objects
from bench.objects import Document
from istiod.analysis import analyzers, resources, status
from istiod.analysis.message import Message
from istiod.analysis.resources import Collection

SHOWN: Final = 5
_NETWORKING: Final = "networking.istio.io/v1"


def _usual(count: int) -> Iterator[Document]:
    """A VirtualService, a DestinationRule and an AuthorizationPolicy of each Service."""
    for i in range(count):
        yield objects.virtual_service(i)
        yield objects.destination_rule(i)
        selector = {"matchLabels": {"app": f"app-{i}"}}
        caller = {"principals": [f"cluster.local/ns/{objects.ns(i)}/sa/app-{i}"]}
        spec = {"selector": selector, "rules": [{"from": [{"source": caller}]}]}
        yield objects.made("security.istio.io/v1", "AuthorizationPolicy", f"ap-{i}", objects.ns(i), spec=spec)


def _one_rule(count: int) -> Iterator[Document]:
    """One VirtualService with a route to each Service."""
    routes = [
        {
            "match": [{"uri": {"prefix": f"/app-{i}/"}, "headers": {"x-shop": {"exact": str(i)}}}],
            "route": [{"destination": {"host": objects.host(i), "port": {"number": 80}}}],
        }
        for i in range(count)
    ]
    yield objects.made(_NETWORKING, "VirtualService", "all", "ns-0", spec={"hosts": ["all.example"], "http": routes})


def _private(count: int) -> Iterator[Document]:
    """Rules that only their own namespace sees, half of them, and the others for all."""
    for i in range(count):
        for made in (objects.virtual_service(i), objects.destination_rule(i)):
            made["spec"]["exportTo"] = ["."] if i % 2 else ["*"]
            yield made


def _edge(count: int) -> Iterator[Document]:
    """Of one gateway's pods a Gateway with a certificate, a VirtualService and a policy for each Service."""
    selector = {"app": "app-0"}
    for i in range(count):
        server = {
            "port": {"number": 443, "name": "https", "protocol": "HTTPS"},
            "hosts": [f"app-{i}.example"],
            "tls": {"mode": "SIMPLE", "credentialName": f"app-{i}"},
        }
        spec: Document = {"selector": selector, "servers": [server]}
        yield objects.made(_NETWORKING, "Gateway", f"gw-{i}", objects.ns(i), spec=spec)
        operation = {"ports": ["8443"], "hosts": [f"app-{i}.example"]}
        spec = {"selector": {"matchLabels": selector}, "rules": [{"to": [{"operation": operation}]}]}
        yield objects.made("security.istio.io/v1", "AuthorizationPolicy", f"ap-{i}", "ns-0", spec=spec)
        rules = objects.virtual_service(i)
        rules["spec"] |= {"hosts": [f"app-{i}.example"], "gateways": [f"gw-{i}"]}
        yield rules
        yield objects.destination_rule(i)


def _outside(count: int) -> Iterator[Document]:
    """A ServiceEntry with a wildcard for each Service, and a DestinationRule for a host in it."""
    for i in range(count):
        port = {"number": 443, "name": "tls", "protocol": "TLS"}
        spec: Document = {"hosts": [f"*.app-{i}.example"], "ports": [port], "location": "MESH_EXTERNAL"}
        yield objects.made(_NETWORKING, "ServiceEntry", f"se-{i}", objects.ns(i), spec=spec)
        spec = {"host": f"www.app-{i}.example", "trafficPolicy": {"tls": {"mode": "SIMPLE"}}}
        yield objects.made(_NETWORKING, "DestinationRule", f"dr-{i}", objects.ns(i), spec=spec)


SHAPES: Final[Mapping[str, Callable[[int], Iterator[Document]]]] = {
    "usual": _usual,
    "one-rule": _one_rule,
    "private": _private,
    "edge": _edge,
    "outside": _outside,
}


def documents(shape: str, count: int) -> Iterator[Document]:
    """The whole mesh."""
    for i in range(objects.NAMESPACES):
        space = objects.made("v1", "Namespace", objects.ns(i), "")
        space["metadata"]["labels"] = {"istio-injection": "enabled"}
        yield space
    for i in range(count):
        yield objects.service(i)
        pods = [objects.pod(i, j, 2) for j in range(2)]
        for each in pods:
            each["spec"]["serviceAccountName"] = f"app-{i}"
            each["spec"]["containers"].append({"name": "istio-proxy", "image": "proxy:1"})
            yield each
        template = {"metadata": {"labels": objects.labels(i, 0)}, "spec": pods[0]["spec"]}
        spec = {"selector": {"matchLabels": {"app": f"app-{i}"}}, "template": template}
        yield objects.made("apps/v1", "Deployment", f"app-{i}", objects.ns(i), spec=spec)
    yield from SHAPES[shape](count)


def spent(shape: str, count: int) -> tuple[dict[str, float], int]:
    """CPU seconds of each analyzer that runs, and how many objects have findings."""
    made = [resources.resource(each) for each in documents(shape, count)]
    known = Collection([each for each in made if each is not None])
    seconds: dict[str, float] = {}
    messages: list[Message] = []
    for each in analyzers.usual():
        before = time.process_time()
        messages += each.run(known)
        seconds[each.name] = seconds.get(each.name, 0.0) + time.process_time() - before
    return seconds, len(status.by_object(messages))


def run(count: int, shapes: list[str]) -> None:
    """Print what each shape costs."""
    for shape in shapes:
        (half, _), (whole, found) = spent(shape, count // 2), spent(shape, count)
        most = sorted(whole, key=lambda name: -whole[name])[:SHOWN]
        parts = ", ".join(f"{name} {whole[name]:.2f} ({half[name]:.2f})" for name in most)
        total = sum(whole.values())
        print(f"{shape:9} {total:6.2f} s ({sum(half.values()):.2f} with half), {found} objects with findings: {parts}")


def main() -> None:
    """Measure what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m bench.analysis", description=__doc__)
    parser.add_argument("services", nargs="?", type=int, default=1000)
    parser.add_argument("shapes", nargs="*", default=list(SHAPES), metavar="SHAPE", help=f"of {', '.join(SHAPES)}")
    given = parser.parse_args()
    run(given.services, given.shapes)
    print(f"load average {os.getloadavg()[0]:.1f}, calibration factor {calibration.calibrate().factor:.2f}")


if __name__ == "__main__":
    main()
