"""``x describe``: under which addresses ingress gateways show a Service, and by which VirtualServices.

Read from the objects: a gateway's own Envoy need not be asked. Like Istio's command it looks at gateways whose pods
have the label ``istio: ingressgateway``, and at their ports of plain HTTP.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from crds import core
from crds.gateway import Gateway
from crds.virtual_service import VirtualService
from istioctl.views import pods, traffic_rules

LABELS: Final[Mapping[str, str]] = {"istio": "ingressgateway"}
"""Of the pods that are taken for ingress gateways."""
_MESH: Final = "mesh"
_SHOWN: Final = frozenset({"http", "http2"})
_HTTP_PORT: Final = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingress:
    """A Service of gateways, and its running pods."""

    service: core.Service
    pods: tuple[core.Pod, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A VirtualService, and one of the Gateways that it names; None where there is none of that name."""

    rule: VirtualService
    named: tuple[str, str]
    """The Gateway's namespace and name."""
    gateway: Gateway | None


def ingresses(gateways: Sequence[core.Pod], services: Sequence[core.Service]) -> list[Ingress]:
    """The Services that lead to gateway pods."""
    found = []
    for service in services:
        behind = tuple(
            each
            for each in gateways
            if each.metadata.namespace == service.metadata.namespace and pods.selected(service, each)
        )
        if behind:
            found.append(Ingress(service=service, pods=behind))
    return sorted(found, key=address)


def named(rule: VirtualService) -> Iterator[tuple[str, str]]:
    """Namespace and name of the Gateways that a VirtualService names."""
    for each in rule.spec.gateways:
        if each and each != _MESH:
            namespace, slash, name = each.partition("/")
            yield (namespace, name) if slash else (rule.metadata.namespace, each)


def lines(bound: Sequence[Bound], found: Sequence[Ingress], to: traffic_rules.Target, here: str) -> Iterator[str]:
    """What leads to the Service from outside."""
    for each in bound:
        if each.gateway is None:
            name = "/".join(each.named)
            yield f"WARNING: VirtualService {pods.called(each.rule, here)} names the Gateway {name}, which is not there"
            continue
        wanted = each.gateway.spec.selector.items()
        serving = [one for one in found if any(wanted <= pod.metadata.labels.items() for pod in one.pods)]
        if serving:
            yield "--------------------"
            for ingress in serving:
                yield from _exposed(ingress)
            yield from traffic_rules.virtual_service(each.rule, to, here)


def address(ingress: Ingress) -> str:
    """Where the outside finds it: the platform's address, else a node's, else "unknown"."""
    for given in ingress.service.status.load_balancer.ingress:
        return given.ip or given.hostname
    return ingress.pods[0].status.host_ip or "unknown"


def _exposed(ingress: Ingress) -> Iterator[str]:
    for port in ingress.service.spec.ports:
        if port.protocol == "TCP" and port.name in _SHOWN and pods.target(port, ingress.pods[0]) is not None:
            suffix = "" if port.port == _HTTP_PORT else f":{port.port}"
            yield f"Exposed on Ingress Gateway http://{address(ingress)}{suffix}"
