"""A mesh of YAML whose proxies are connected, as the mesh page looks at it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import yaml

from crds.diagnostic import Diagnostic, Position
from crds.key import ConfigKey
from crds.parse import parse
from istiod.ads.server import ProxyStatus
from istiod.ads.status import Sync, TypeStatus
from istiod.config.proxy import Peer, Proxy
from istiod.config.store import ConfigStore
from istiod.meshpage.sources import Sources
from istiod.pipeline import Pipeline
from wire import names, node
from wire.spiffe import Identity

SHOP = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.1, selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: api, namespace: shop}
spec:
  clusterIP: 10.96.0.2
  selector: {app: api}
  ports: [{name: http, port: 80, targetPort: 8000}, {name: tcp, port: 9000}, {name: https, port: 443}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: api-1, namespace: shop, labels: {kubernetes.io/service-name: api}}
addressType: IPv4
ports: [{name: http, port: 8000, protocol: TCP}, {name: tcp, port: 9000, protocol: TCP}]
endpoints:
  - {addresses: [10.244.0.2], targetRef: {kind: Pod, name: api-1, namespace: shop}}
  - {addresses: [10.244.0.3], targetRef: {kind: Pod, name: api-2, namespace: shop}}
---
apiVersion: v1
kind: Pod
metadata: {name: api-1, namespace: shop, labels: {app: api, version: v1, security.istio.io/tlsMode: istio}}
spec: {serviceAccountName: api, containers: [{name: app, image: app}]}
status: {podIP: 10.244.0.2, phase: Running, conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: api-2, namespace: shop, labels: {app: api, version: v2}}
spec: {containers: [{name: app, image: app}]}
status: {podIP: 10.244.0.3, phase: Running, conditions: [{type: Ready, status: "True"}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: api, namespace: shop}
spec: {host: api, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: api, namespace: shop}
spec:
  hosts: [api]
  http:
    - match: [{uri: {exact: /old}}]
      redirect: {uri: /new}
    - match: [{uri: {regex: /secret.*}}]
      directResponse: {status: 403}
    - match: [{headers: {end-user: {exact: jason}}, queryParams: {q: {exact: "1"}}, uri: {prefix: /in}}]
      route: [{destination: {host: api, subset: v2}}]
    - route:
        - {destination: {host: api, subset: v1}, weight: 75}
        - {destination: {host: api, subset: v2}, weight: 25}
"""
ACKED = dict.fromkeys((names.CLUSTER, names.LISTENER, names.ENDPOINT, names.ROUTE), Sync.SYNCED)


def proxy(name: str, address: str, kind: str = "sidecar", account: str = "default", **metadata: object) -> Proxy:
    pod, _, namespace = name.partition(".")
    said = {"ISTIO_VERSION": "1.30.0", "WORKLOAD_NAME": pod.rpartition("-")[0], "NAMESPACE": namespace, **metadata}
    found = node.parse(f"{kind}~{address}~{name}~{namespace}.svc.cluster.local", said)
    identity = Identity("cluster.local", namespace, account)
    return Proxy(peer=Peer(address=f"{address}:40001", identity=identity), node=found)


def status(
    who: Proxy, types: dict[str, Sync] | None = None, error: str = "", refused: tuple[str, ...] = ()
) -> ProxyStatus:
    found = tuple(
        TypeStatus(type_url=url, sync=sync, sent="1", acked="1", waiting=None, refused=refused, error=error)
        for url, sync in (ACKED if types is None else types).items()
    )
    return ProxyStatus(proxy=who, types=found, target=1, settled=True, acked_at=None)


@dataclass
class Made:
    """The mesh and what is said of it; change it before a page is asked for."""

    pipeline: Pipeline
    proxies: list[ProxyStatus] = field(default_factory=list)
    findings: Sequence[Diagnostic] = ()

    def sources(self) -> Sources:
        return Sources(
            context=lambda: self.pipeline.context,
            proxies=lambda: self.proxies,
            target=self.pipeline.target,
            findings=lambda: self.findings,
            position=position,
        )


def position(key: ConfigKey, field: str) -> Position | None:
    return Position(file="api.yaml", line=7) if key.kind == "VirtualService" and field else None


def mesh(text: str = SHOP, *, built: bool = True) -> Made:
    store = ConfigStore()
    made = Made(Pipeline(store, lambda _: None, time.monotonic))
    for document in yaml.safe_load_all(text):
        found = parse(document).object
        assert found is not None
        store.apply(found)
    if built:
        made.pipeline.push()
    return made


def shop() -> Made:
    """The shop with a client, a server and a gateway."""
    made = mesh()
    made.proxies = [
        status(proxy("web-1.shop", "10.244.0.1")),
        status(proxy("api-1.shop", "10.244.0.2", account="api")),
        status(proxy("edge-1.shop", "10.244.0.4", "router", LABELS={"istio": "edge"})),
    ]
    return made
