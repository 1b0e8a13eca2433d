"""S(n, k, m): n Services of k endpoints each and m proxies, as documents (the shape of istiod's recorded figures).

A tenth of the Services has a VirtualService and a DestinationRule with two subsets; everything is spread over ten
namespaces. A change carries a number that the fleet finds again in the bytes: the address 10.77.A.B is change
256 * A + B, the name ``mk-N`` is change N.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

NAMESPACES: Final = 10
ACCOUNTS: Final = 50
RULED: Final = 10
"""One Service in so many has a VirtualService and a DestinationRule."""

Document = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Services, endpoints of each, proxies; and how many Sidecars there are, each for one workload."""

    services: int
    endpoints: int
    proxies: int
    sidecars: int = 0

    def __str__(self) -> str:
        return f"{self.services},{self.endpoints},{self.proxies}"


def parse_size(text: str, sidecars: int = 0) -> Size:
    """``N,K,M`` as a Size.

    Raises:
        ValueError: it is no three numbers.
    """
    n, k, m = (int(part) for part in text.split(","))
    return Size(services=n, endpoints=k, proxies=m, sidecars=sidecars)


def ip(i: int) -> str:
    """The i-th pod's address."""
    return f"10.{100 + i // 65536}.{i // 256 % 256}.{i % 256}"


def ns(i: int) -> str:
    """The namespace of the i-th Service."""
    return f"ns-{i % NAMESPACES}"


def account(i: int) -> str:
    """The service account of the i-th Service's pods."""
    return f"sa-{i % ACCOUNTS}"


def host(i: int) -> str:
    """The i-th Service's full name."""
    return f"svc-{i}.{ns(i)}.svc.cluster.local"


def marked(change: int) -> str:
    """The address that says: change number so and so."""
    return f"10.77.{change // 256}.{change % 256}"


def service(i: int, name: str = "") -> Document:
    """The i-th Service."""
    return _object(
        "v1",
        "Service",
        name or f"svc-{i}",
        i,
        spec={
            "clusterIP": f"172.20.{10 + i // 250}.{1 + i % 250}",
            "selector": {"app": f"app-{i}"},
            "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}],
        },
    )


def labels(i: int, j: int) -> dict[str, str]:
    """The labels of the i-th Service's j-th pod."""
    return {
        "app": f"app-{i}",
        "version": f"v{j % 2 + 1}",
        "security.istio.io/tlsMode": "istio",
        "service.istio.io/canonical-name": f"app-{i}",
        "service.istio.io/canonical-revision": f"v{j % 2 + 1}",
    }


def pod(i: int, j: int, k: int) -> Document:
    """The i-th Service's j-th pod."""
    address = ip(i * k + j)
    made = _object(
        "v1",
        "Pod",
        f"app-{i}-{j}",
        i,
        spec={
            "serviceAccountName": account(i),
            "nodeName": f"node-{j % 5}",
            "containers": [{"name": "app", "image": "app:1", "ports": [{"containerPort": 8080}]}],
        },
    )
    made["metadata"]["labels"] = labels(i, j)
    ready = {"type": "Ready", "status": "True"}
    made["status"] = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": [ready]}
    return made


def endpoint_slice(i: int, k: int, *extra: str) -> Document:
    """The i-th Service's endpoints, and addresses of no pod beside them."""
    conditions = {"ready": True, "serving": True, "terminating": False}
    backed: list[Document] = [
        {
            "addresses": [ip(i * k + j)],
            "conditions": conditions,
            "nodeName": f"node-{j % 5}",
            "targetRef": {"kind": "Pod", "name": f"app-{i}-{j}", "namespace": ns(i)},
        }
        for j in range(k)
    ]
    made = _object("discovery.k8s.io/v1", "EndpointSlice", f"svc-{i}-abcde", i)
    made["metadata"]["labels"] = {"kubernetes.io/service-name": f"svc-{i}"}
    made["addressType"] = "IPv4"
    made["endpoints"] = backed + [{"addresses": [address], "conditions": conditions} for address in extra]
    made["ports"] = [{"name": "http", "port": 8080, "protocol": "TCP"}]
    return made


def virtual_service(i: int, weight: int = 90, mark: int = 0) -> Document:
    """The i-th Service's routes: two weighted subsets below /api."""
    subsets = [("v1", weight), ("v2", 100 - weight)]
    weighted = [{"destination": {"host": host(i), "subset": s}, "weight": w} for s, w in subsets]
    return _object(
        "networking.istio.io/v1",
        "VirtualService",
        f"vs-{i}",
        i,
        spec={
            "hosts": [host(i)],
            "http": [
                {
                    "name": f"mk-{mark}",
                    "timeout": "10s",
                    "retries": {"attempts": 3, "perTryTimeout": "2s"},
                    "match": [{"uri": {"prefix": "/api"}}],
                    "route": weighted,
                },
                {"route": [{"destination": {"host": host(i)}}]},
            ],
        },
    )


def destination_rule(i: int) -> Document:
    """The i-th Service's policy and subsets."""
    return _object(
        "networking.istio.io/v1",
        "DestinationRule",
        f"dr-{i}",
        i,
        spec={
            "host": host(i),
            "trafficPolicy": {
                "connectionPool": {"tcp": {"maxConnections": 100}},
                "outlierDetection": {"consecutive5xxErrors": 7, "interval": "30s"},
            },
            "subsets": [{"name": name, "labels": {"version": name}} for name in ("v1", "v2")],
        },
    )


def sidecar(i: int) -> Document:
    """A Sidecar of the i-th Service's workload that sees two namespaces."""
    return _object(
        "networking.istio.io/v1",
        "Sidecar",
        f"sidecar-{i}",
        i,
        spec={
            "workloadSelector": {"labels": {"app": f"app-{i}"}},
            "egress": [{"hosts": ["./*", f"{ns(i + 1)}/*"]}],
        },
    )


def documents(size: Size) -> Iterator[Document]:
    """The whole world."""
    for i in range(size.services):
        yield service(i)
        yield endpoint_slice(i, size.endpoints)
        for j in range(size.endpoints):
            yield pod(i, j, size.endpoints)
    for i in range(0, size.services, RULED):
        yield virtual_service(i)
        yield destination_rule(i)
    for i in range(size.sidecars):
        yield sidecar(i)


def nodes(size: Size) -> Iterator[Document]:
    """What the fleet's clients say of themselves: one pod after the other."""
    for x in range(size.proxies):
        i, j = x % size.services, x // size.services % size.endpoints
        yield {
            "ip": ip(i * size.endpoints + j),
            "pod": f"app-{i}-{j}",
            "ns": ns(i),
            "sa": account(i),
            "labels": labels(i, j),
        }


def _object(version: str, kind: str, name: str, i: int, **fields: Any) -> Document:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": ns(i)}, **fields}


def _endpoint(size: Size, turn: int, change: int) -> Document:
    return endpoint_slice(_ruled(size, turn), size.endpoints, marked(change))


def _weight(size: Size, turn: int, change: int) -> Document:
    return virtual_service(_ruled(size, turn), 50 + change % 50, change)


def _service(size: Size, turn: int, change: int) -> Document:
    made = service(size.services + 1 + turn, f"mk-{change}")
    made["spec"]["selector"] = {"app": "none"}
    return made


def _ruled(size: Size, turn: int) -> int:
    """Services with a DestinationRule and a VirtualService, one after the other."""
    return turn * RULED % size.services


CHANGES: Final[Mapping[str, Callable[[Size, int, int], Document]]] = {
    "endpoint": _endpoint,
    "virtualservice": _weight,
    "service": _service,
}
"""Kinds of change by name: the object of the turn-th change, which carries change number so and so."""
