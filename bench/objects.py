"""The objects that the benchmark's worlds are made of: the i-th Service, its pods, its rules.

Everything is spread over ``spread`` namespaces. A change carries a number that the fleet finds again in the bytes: the
address 10.77.A.B is change 256 * A + B, the name ``mk-N`` is change N.
"""

from __future__ import annotations

from typing import Any, Final

NAMESPACES: Final = 10
ACCOUNTS: Final = 50
MACHINES: Final = 5

Document = dict[str, Any]


def ip(i: int) -> str:
    """The i-th pod's address."""
    return f"10.{100 + i // 65536}.{i // 256 % 256}.{i % 256}"


def ns(i: int, spread: int = NAMESPACES) -> str:
    """The namespace of the i-th Service."""
    return f"ns-{i % spread}"


def account(i: int) -> str:
    """The service account of the i-th Service's pods."""
    return f"sa-{i % ACCOUNTS}"


def host(i: int, spread: int = NAMESPACES) -> str:
    """The i-th Service's full name."""
    return f"svc-{i}.{ns(i, spread)}.svc.cluster.local"


def marked(change: int) -> str:
    """The address that says: change number so and so."""
    return f"10.77.{change // 256}.{change % 256}"


def service(i: int, name: str = "", *, spread: int = NAMESPACES) -> Document:
    """The i-th Service."""
    return made(
        "v1",
        "Service",
        name or f"svc-{i}",
        ns(i, spread),
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


def machine(i: int, j: int) -> str:
    """The node of the i-th Service's j-th pod."""
    return f"node-{(i + j) % MACHINES}"


def pod(i: int, j: int, k: int, spread: int = NAMESPACES) -> Document:
    """The i-th Service's j-th pod."""
    address = ip(i * k + j)
    found = made(
        "v1",
        "Pod",
        f"app-{i}-{j}",
        ns(i, spread),
        spec={
            "serviceAccountName": account(i),
            "nodeName": machine(i, j),
            "containers": [{"name": "app", "image": "app:1", "ports": [{"containerPort": 8080}]}],
        },
    )
    found["metadata"]["labels"] = labels(i, j)
    ready = {"type": "Ready", "status": "True"}
    found["status"] = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": [ready]}
    return found


def endpoint_slice(i: int, k: int, *extra: str, spread: int = NAMESPACES) -> Document:
    """The i-th Service's endpoints, and addresses of no pod beside them."""
    conditions = {"ready": True, "serving": True, "terminating": False}
    backed: list[Document] = [
        {
            "addresses": [ip(i * k + j)],
            "conditions": conditions,
            "nodeName": machine(i, j),
            "targetRef": {"kind": "Pod", "name": f"app-{i}-{j}", "namespace": ns(i, spread)},
        }
        for j in range(k)
    ]
    found = made("discovery.k8s.io/v1", "EndpointSlice", f"svc-{i}-abcde", ns(i, spread))
    found["metadata"]["labels"] = {"kubernetes.io/service-name": f"svc-{i}"}
    found["addressType"] = "IPv4"
    found["endpoints"] = backed + [{"addresses": [address], "conditions": conditions} for address in extra]
    found["ports"] = [{"name": "http", "port": 8080, "protocol": "TCP"}]
    return found


def virtual_service(i: int, weight: int = 90, mark: int = 0, *, spread: int = NAMESPACES) -> Document:
    """The i-th Service's routes: two weighted subsets below /api."""
    subsets = [("v1", weight), ("v2", 100 - weight)]
    weighted = [{"destination": {"host": host(i, spread), "subset": s}, "weight": w} for s, w in subsets]
    return made(
        "networking.istio.io/v1",
        "VirtualService",
        f"vs-{i}",
        ns(i, spread),
        spec={
            "hosts": [host(i, spread)],
            "http": [
                {
                    "name": f"mk-{mark}",
                    "timeout": "10s",
                    "retries": {"attempts": 3, "perTryTimeout": "2s"},
                    "match": [{"uri": {"prefix": "/api"}}],
                    "route": weighted,
                },
                {"route": [{"destination": {"host": host(i, spread)}}]},
            ],
        },
    )


def destination_rule(i: int, spread: int = NAMESPACES) -> Document:
    """The i-th Service's policy and subsets."""
    return made(
        "networking.istio.io/v1",
        "DestinationRule",
        f"dr-{i}",
        ns(i, spread),
        spec={
            "host": host(i, spread),
            "trafficPolicy": {
                "connectionPool": {"tcp": {"maxConnections": 100}},
                "outlierDetection": {"consecutive5xxErrors": 7, "interval": "30s"},
            },
            "subsets": [{"name": name, "labels": {"version": name}} for name in ("v1", "v2")],
        },
    )


def sidecar(i: int, spread: int = NAMESPACES) -> Document:
    """A Sidecar of the i-th Service's workload that sees two namespaces."""
    return made(
        "networking.istio.io/v1",
        "Sidecar",
        f"sidecar-{i}",
        ns(i, spread),
        spec={
            "workloadSelector": {"labels": {"app": f"app-{i}"}},
            "egress": [{"hosts": ["./*", f"{ns(i + 1, spread)}/*"]}],
        },
    )


def made(version: str, kind: str, name: str, namespace: str, **fields: Any) -> Document:
    """An object of any kind; without a namespace where it is ""."""
    metadata = {"name": name, "namespace": namespace} if namespace else {"name": name}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **fields}
