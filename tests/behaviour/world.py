"""What is there in every case: services with their endpoints, a gateway's and two sidecars' proxies, ports by name.

``web`` has three pods (v1, v2, v2), ``shop`` one, ``far`` in the namespace ``other`` one, ``mesh`` one whose server
speaks mutual TLS as a sidecar does; ``external.example`` is outside.
"""

from __future__ import annotations

import yaml

from crds.local_rate_limit import GROUP
from tests.mesh import fleet

PORTS = (
    *("http", "http2", "http3", "tcp", "tcp2", "tls", "mtls", "auto"),
    *("gw", "gw2", "gwtls", "gwtls2", "gwtcp", "in", "intcp", "in2", "local", "locallines", "full"),
    *("proxy", "caught", "entered"),
)
"""Ports that Envoys listen on: services', a gateway's (gw...), the other sidecar's (in...); servers on localhost.

``full`` is the port of a server there that accepts nobody; no service has ``proxy``, ``caught`` and ``entered``.
"""
APP, SECOND_APP, LINES, TLS, MESH_TLS = 18_080, 18_081, 19_000, 18_443, 18_444
"""Ports that the servers behind them listen on."""
NUMBERS = {"app": APP, "app2": SECOND_APP, "lines": LINES, "tlsapp": TLS, "meshapp": MESH_TLS}
SERVERS = {"web-1": 1, "web-2": 2, "web-3": 3, "shop-1": 4, "far-1": 5, "mesh-1": 6}
FULL = 8
"""Whose queue of connections is full: to connect takes for ever."""
ADDRESSES = {"client": 10, "gw": 11, "server": 12}
PROXIES = (
    ("sidecar", "client-1", "client"),
    ("router", "gw-1", "gw"),
    ("sidecar", "server-1", "server"),
)
CERTIFICATES: dict[str, tuple[str, ...]] = {
    "external.example": ("spiffe://external/ns/x", "*.w.example"),
    "revoked.example": (),
    "a.example": (),
    "b.example": (),
    "client.example": ("spiffe://outside/client",),
}
OBJECTS = """
kind: Service
metadata: {name: web}
spec:
  clusterIP: 10.0.0.1
  selector: {app: web}
  ports:
  - {name: http, port: $http, targetPort: $app}
  - {name: http2-b, port: $http2, targetPort: $app}
  - {name: http-c, port: $http3, targetPort: $app2}
  - {name: tcp, port: $tcp, targetPort: $lines}
  - {name: tls, port: $tls, targetPort: $tlsapp}
---
kind: Service
metadata: {name: shop}
spec:
  clusterIP: 10.0.0.2
  selector: {app: shop}
  ports: [{name: http, port: $http, targetPort: $app}, {name: tcp, port: $tcp2, targetPort: $lines}]
---
kind: Service
metadata: {name: far, namespace: other}
spec: {clusterIP: 10.0.0.3, selector: {app: far}, ports: [{name: http, port: $http, targetPort: $app}]}
---
kind: Service
metadata: {name: mesh}
spec: {clusterIP: 10.0.0.4, selector: {app: mesh}, ports: [{name: http, port: $mtls, targetPort: $meshapp}]}
---
kind: Sidecar
metadata: {name: server}
spec:
  workloadSelector: {labels: {app: server}}
  ingress:
  - {port: {number: $in, protocol: HTTP, name: http}, bind: 127.0.0.1, defaultEndpoint: "127.0.0.1:$local"}
  egress: [{hosts: ["~/*"]}]
"""


def completed(one: dict[str, object], number: int) -> dict[str, object]:
    """An object with the group, name and namespace that a case leaves out."""
    kind = str(one["kind"])
    core = kind in ("Service", "Pod", "Secret", "ConfigMap", "Namespace", "Node")
    security = kind in ("PeerAuthentication", "AuthorizationPolicy")
    group = "v1" if core else "security.istio.io/v1" if security else "networking.istio.io/v1"
    if kind == "LocalRateLimit":
        group = f"{GROUP}/v1alpha1"
    if kind == "EndpointSlice":
        group = "discovery.k8s.io/v1"
    if kind == "Telemetry":
        group = "telemetry.istio.io/v1"
    if kind == "EnvoyFilter":
        group = "networking.istio.io/v1alpha3"
    own: object = one.get("metadata") or {}
    assert isinstance(own, dict)
    metadata = {"name": f"case-{number}", "namespace": "default", **own}
    return {"apiVersion": group, **one, "metadata": metadata}


def stored(one: dict[str, object]) -> dict[str, object]:
    """The object as it is stored: the mesh's settings stand in a ConfigMap."""
    if one["kind"] != "MeshConfig":
        return one
    said = {"mesh": yaml.safe_dump(one.get("spec") or {})}
    metadata = {"name": "istio", "namespace": "istio-system"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": said}


def text() -> str:
    """All of it."""
    ports = [("http", "$app"), ("http2-b", "$app"), ("http-c", "$app2"), ("tcp", "$lines"), ("tls", "$tlsapp")]
    documents = [OBJECTS.lstrip()]
    plain = {"security.istio.io/tlsMode": "disabled"}
    for name, number in SERVERS.items():
        app, _, which = name.partition("-")
        namespace = "other" if app == "far" else "default"
        labels = {"version": "v1" if which == "1" else "v2"} | ({} if app == "mesh" else plain)
        documents.append(fleet.pod(name, f"$ip{number}", namespace, account=app, labels=labels))
    for _, name, account in PROXIES:
        at = ADDRESSES[account]
        documents.append(fleet.pod(name, f"$ip{at}", account=account, labels={"role": account, **plain}))
    for app, members in {"web": (1, 2, 3), "shop": (4,), "far": (5,), "mesh": (6,)}.items():
        namespace = "other" if app == "far" else "default"
        backends = [
            {
                **fleet.backend(f"$ip{number}"),
                "targetRef": {"kind": "Pod", "name": f"{app}-{at}", "namespace": namespace},
            }
            for at, number in enumerate(members, 1)
        ]
        named = [("http", "$meshapp")] if app == "mesh" else ports
        said = [{"name": name, "port": port} for name, port in named]
        documents.append(fleet.slice_of(app, *backends, ports=said, namespace=namespace).replace("'", ""))
    return "\n---\n".join(documents)
