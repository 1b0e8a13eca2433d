"""What files are analysed with where no cluster is asked: Istio's ingress gateway, as its charts install it."""

from __future__ import annotations

from typing import Final

from istiod.analysis import fields
from istiod.analysis.resources import ROOT, Resource, resource

_PORTS: Final = {"status-port": 15021, "http2": 80, "https": 443, "tcp": 31400, "tls": 15443}
_LABELS: Final = {"istio": "ingressgateway"}
_GATEWAY: Final = "istio-ingressgateway"


def resources(mesh: fields.Record, root: str = ROOT) -> list[Resource]:
    """A pod and a service of the gateway; nothing where the mesh configuration has no ingress."""
    if fields.text(mesh, "ingressControllerMode") == "OFF":
        return []
    name = fields.text(mesh, "ingressService") or _GATEWAY
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"{name}-dummypod", "namespace": root, "labels": _LABELS},
        "spec": {"containers": [{"name": "istio-proxy"}]},
    }
    ports = [{"name": port, "port": number, "protocol": "TCP", "targetPort": number} for port, number in _PORTS.items()]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": root, "labels": _LABELS},
        "spec": {"ports": ports, "selector": _LABELS},
    }
    return [found for each in (pod, service) if (found := resource(each)) is not None]
