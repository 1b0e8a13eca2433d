"""Services: their addresses, the EndpointSlices that follow from pods, and the rules that spread connections. Pure.

It plays the API server's address allocator, the EndpointSlice controller and kube-proxy of Kubernetes.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from node import probes
from node.objects import Raw, annotations_of, copied, key_of, labels_of, selects
from wire import names

SERVICE_NETWORK = ipaddress.IPv4Network("10.96.0.0/16")
DNS_ADDRESS = "10.96.0.10"
_FIRST_OFFSET = 256  # addresses below are for the mesh's own


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """A pod as services see it. ``running``: it has an address and has not ended."""

    name: str
    namespace: str
    uid: str
    address: str
    labels: Mapping[str, str]
    ports: tuple[Mapping[str, Any], ...] = ()
    ready: bool = False
    terminating: bool = False
    running: bool = True
    node: str = ""
    zone: str = ""
    hostname: str = ""
    subdomain: str = ""


@dataclass(slots=True)
class Addresses:
    """Which Service holds which cluster IP. An address stays while its Service lives."""

    held: dict[tuple[str, str], str] = field(default_factory=dict)

    def allocate(self, service: Mapping[str, Any]) -> str:
        """The cluster IP of a Service: the one that it asks for if that is free, else the next by name's hash."""
        key = key_of(service)
        name = (key.namespace, key.name)
        wanted = str((service.get("spec") or {}).get("clusterIP") or "")
        taken = {address for other, address in self.held.items() if other != name}
        if wanted and wanted not in taken | {"None"}:
            self.held[name] = wanted
        elif name not in self.held:
            self.held[name] = _free(f"{key.namespace}/{key.name}", taken)
        return self.held[name]

    def keep(self, services: Iterable[Mapping[str, Any]]) -> None:
        """Give back the addresses of Services that are gone."""
        alive = {(key_of(s).namespace, key_of(s).name) for s in services}
        for name in [n for n in self.held if n not in alive]:
            del self.held[name]


def _free(name: str, taken: set[str]) -> str:
    """An address that nobody holds; the same name gets the same one wherever possible, so that runs are alike."""
    room = SERVICE_NETWORK.num_addresses - _FIRST_OFFSET - 1
    start = int(hashlib.sha256(name.encode()).hexdigest(), 16) % room
    for step in range(room):
        address = str(SERVICE_NETWORK[_FIRST_OFFSET + (start + step) % room])
        if address not in taken:
            return address
    raise ValueError(f"{SERVICE_NETWORK} has no free address")


def is_headless(service: Mapping[str, Any]) -> bool:
    """Whether names of this Service stand for its pods."""
    return str((service.get("spec") or {}).get("clusterIP") or "") == "None"


def is_external_name(service: Mapping[str, Any]) -> bool:
    """Whether this Service is an alias of a DNS name."""
    return (service.get("spec") or {}).get("type") == "ExternalName"


def completed(service: Raw, addresses: Addresses) -> Raw:
    """The Service as an API server would give it: with its cluster IP and defaults filled in."""
    whole = copied(service)
    spec = whole.setdefault("spec", {})
    for port in spec.get("ports") or ():
        port.setdefault("protocol", "TCP")
        port.setdefault("targetPort", port.get("port"))
    spec.setdefault("type", "ClusterIP")
    if not is_headless(service) and not is_external_name(service):
        spec["clusterIP"] = addresses.allocate(service)
    if "clusterIP" in spec:
        spec["clusterIPs"] = [spec["clusterIP"]]
    return whole


def _endpoint(pod: Backend, publish_not_ready: bool) -> Raw:  # noqa: FBT001 (a field of the Service)
    """A pod in an EndpointSlice (discovery/v1 Endpoint)."""
    serving = pod.ready or publish_not_ready
    endpoint: Raw = {
        "addresses": [pod.address],
        "conditions": {
            "ready": serving and (not pod.terminating or publish_not_ready),
            "serving": serving,
            "terminating": pod.terminating,
        },
        "nodeName": pod.node,
        "targetRef": {"kind": "Pod", "name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
    }
    if pod.zone:
        endpoint["zone"] = pod.zone
    if pod.hostname and pod.subdomain:
        endpoint["hostname"] = pod.hostname
    return endpoint


def _ports(service: Mapping[str, Any], pod: Backend) -> tuple[tuple[str, int, str, str], ...]:
    """(name, number on the pod, protocol, appProtocol) of each port; a name that the pod lacks drops the port."""
    out = []
    for port in (service.get("spec") or {}).get("ports") or ():
        target = probes.port_number(port.get("targetPort", port.get("port")), pod.ports)
        if target:
            fields = (str(port.get("name") or ""), target, str(port.get("protocol") or "TCP"))
            out.append((*fields, str(port.get("appProtocol") or "")))
    return tuple(out)


def slices(service: Raw, pods: Iterable[Backend]) -> list[Raw]:
    """The EndpointSlices of a Service: one per set of port numbers among its pods. None without a selector."""
    spec = service.get("spec") or {}
    key, selector = key_of(service), spec.get("selector") or {}
    if not selector or is_external_name(service):
        return []
    groups: dict[tuple[tuple[str, int, str, str], ...], list[Raw]] = {}
    for pod in sorted(pods, key=lambda p: p.name):
        if pod.running and pod.namespace == key.namespace and selects(selector, pod.labels):
            endpoint = _endpoint(pod, bool(spec.get("publishNotReadyAddresses")))
            groups.setdefault(_ports(service, pod), []).append(endpoint)
    return [_slice(service, ports, groups[ports]) for ports in sorted(groups)] or [_slice(service, (), [])]


def _named_targets(service: Raw) -> dict[str, str]:
    """Port name -> targetPort, where that is a name."""
    ports = (service.get("spec") or {}).get("ports") or ()
    return {str(p.get("name") or ""): p["targetPort"] for p in ports if isinstance(p.get("targetPort"), str)}


def _slice(service: Raw, ports: tuple[tuple[str, int, str, str], ...], endpoints: list[Raw]) -> Raw:
    """One EndpointSlice.

    Its name does not change with its endpoints, nor with what the Service calls its ports: a slice is updated in place,
    as in Kubernetes, and never missing. What tells slices of a Service apart are the numbers behind named targets.
    """
    key = key_of(service)
    named = _named_targets(service)
    numbers = sorted((named[name], number) for name, number, *_ in ports if name in named)
    suffix = hashlib.sha256(repr((key, numbers)).encode()).hexdigest()[:5] if ports else "none"
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{key.name}-{suffix}",
            "namespace": key.namespace,
            "labels": {
                **labels_of(service),
                names.LABEL_SERVICE_NAME: key.name,
                names.LABEL_SLICE_MANAGER: names.SLICE_CONTROLLER,
            },
            "annotations": {k: v for k, v in annotations_of(service).items() if not k.startswith("kubectl.")},
        },
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [
            {"name": name, "port": number, "protocol": protocol} | ({"appProtocol": app} if app else {})
            for name, number, protocol, app in ports
        ],
    }


def _ready(found: Sequence[Raw]) -> list[tuple[Raw, Raw]]:
    """(endpoint, slice) of each endpoint that takes new connections."""
    return [(e, s) for s in found for e in s["endpoints"] if e["conditions"]["ready"]]


def zone(
    services: Iterable[Raw], endpoint_slices: Mapping[tuple[str, str], Sequence[Raw]]
) -> dict[str, tuple[str, ...]]:
    """DNS: full name without the last dot -> IPv4 addresses, or one other name (ExternalName)."""
    names_: dict[str, tuple[str, ...]] = {}
    for service in services:
        key = key_of(service)
        host = f"{key.name}.{key.namespace}.svc.{names.DEFAULT_DNS_DOMAIN}".lower()
        found = endpoint_slices.get((key.namespace, key.name), ())
        if is_external_name(service):
            names_[host] = (str(service["spec"].get("externalName", "")).lower(),)
        elif is_headless(service):
            names_[host] = tuple(e["addresses"][0] for e, _ in _ready(found))
            for endpoint, _ in _ready(found):
                if "hostname" in endpoint:
                    names_[f"{endpoint['hostname']}.{host}"] = tuple(endpoint["addresses"])
        else:
            names_[host] = (str(service["spec"]["clusterIP"]),)
    return names_


def _targets(port: Mapping[str, Any], found: Sequence[Raw]) -> list[str]:
    """``address . port`` of each ready endpoint of a Service's port, in nftables' form."""
    targets = []
    for endpoint, endpoint_slice in _ready(found):
        numbers = [each["port"] for each in endpoint_slice["ports"] if each["name"] == str(port.get("name") or "")]
        targets += [f"{endpoint['addresses'][0]} . {number}" for number in numbers]
    return targets


def rules(
    services: Iterable[Raw], endpoint_slices: Mapping[tuple[str, str], Sequence[Raw]], pods: Iterable[Backend]
) -> str:
    """The nftables script of the node: each cluster IP and port goes to one ready endpoint, chosen at random.

    It replaces the whole table in one transaction. A pod that reaches itself by a cluster IP is masqueraded, since it
    would otherwise get a packet from its own address. Without ready endpoints connections are refused at once.
    """
    spread = []
    for service in sorted(services, key=key_of):
        key = key_of(service)
        if is_headless(service) or is_external_name(service):
            continue
        for port in service["spec"].get("ports") or ():
            targets = _targets(port, endpoint_slices.get((key.namespace, key.name), ()))
            if targets:
                protocol = str(port.get("protocol") or "TCP").lower()
                match = f"ip daddr {service['spec']['clusterIP']} {protocol} dport {port['port']}"
                chosen = ", ".join(f"{number} : {target}" for number, target in enumerate(targets))
                spread.append(f"    {match} dnat to numgen random mod {len(targets)} map {{ {chosen} }}")
    own = ", ".join(f"{a} . {a}" for a in sorted({p.address for p in pods if p.address}))
    return _script(spread, own)


def _script(spread: list[str], own: str) -> str:
    """The table with its chains."""
    rest = f"ip daddr {SERVICE_NETWORK} ip daddr != {DNS_ADDRESS}"
    elements = f" elements = {{ {own} }};" if own else ""
    return "\n".join(
        [
            "table ip mesh",
            "delete table ip mesh",
            "table ip mesh {",
            f"  set itself {{ type ipv4_addr . ipv4_addr;{elements} }}",
            "  chain services {",
            *spread,
            "  }",
            "  chain prerouting { type nat hook prerouting priority dstnat; jump services; }",
            "  chain output { type nat hook output priority -100; jump services; }",
            "  chain postrouting {",
            "    type nat hook postrouting priority srcnat;",
            "    ip saddr . ip daddr @itself masquerade",
            "  }",
            "  chain rest {",
            "    type filter hook prerouting priority filter;",
            f"    {rest} meta l4proto tcp reject with tcp reset",
            f"    {rest} reject",
            "  }",
            "}",
            "",
        ]
    )
