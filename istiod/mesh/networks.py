"""Networks: which one an address is in, and by which gateways one gets into it (features rows R10, T3).

A cluster may have workloads that its pods do not reach by address: virtual machines, or pods of another network. What a
proxy is sent instead of them is istiod.envoy.crossings'. Gateways count by IP address: names are not looked up.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Final, TypeAlias

from crds import core, mesh_networks, parse
from crds.checks import values
from crds.diagnostic import Code, Diagnostic, warning
from crds.key import ConfigKey
from istiod.config.store import ConfigSnapshot
from istiod.mesh.recall import Recall
from istiod.mesh.registry import Registry
from istiod.mesh.service import Service
from wire import names

FIELD: Final = "data.meshNetworks"
NAMESPACE: Final = ("", "Namespace")
_PORT: Final = 15443
_PORT_NUMBER: Final = re.compile(r"[1-9][0-9]{0,4}")
_LAST_PORT: Final = 65_535

Gateways: TypeAlias = tuple[tuple[str, tuple[tuple[str, int], ...]], ...]
"""The addresses and ports of the gateways of each network, in a fixed order. Networks without gateways are left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Networks:
    """What is said of networks beside the labels of workloads and Services.

    ``default`` is the network of all workloads that name none; ``ranges`` are networks by CIDR, where there is no such
    default. ``gateways`` are said by address, ``services`` by the host of the Service in front of them; each with its
    network and port.
    """

    default: str = ""
    ranges: tuple[tuple[str, str], ...] = ()
    gateways: tuple[tuple[str, str, int], ...] = ()
    services: tuple[tuple[str, str, int], ...] = ()

    def of(self, address: str) -> str:
        """The network of a workload that does not say it (Istio: label of the root namespace, then MeshNetworks)."""
        if self.default or not self.ranges or not values.is_address(address):
            return self.default
        place = ip_address(address)
        return next((network for cidr, network in self.ranges if place in ip_network(cidr, strict=False)), "")

    def names(self, item: core.Service, host: str) -> bool:
        """Whether a Service is in front of gateways of some network."""
        return names.LABEL_NETWORK in item.metadata.labels or any(host == one for _, one, _ in self.services)


NOTHING: Final = Networks()


def read(snapshot: ConfigSnapshot, root_namespace: str, previous: Networks) -> tuple[Networks, tuple[Diagnostic, ...]]:
    """The networks of a snapshot, with findings; of a text that cannot be read the networks from before stay."""
    key = snapshot.mesh_config
    item = snapshot.get(key)
    written = item.data.get("meshNetworks", "") if isinstance(item, core.ConfigMap) else ""
    config, found = parse.part_of_text(mesh_networks.MeshNetworks, written, key, FIELD)
    if config is None:
        return previous, found
    home = snapshot.get(ConfigKey(*NAMESPACE, "", root_namespace))
    labelled = home.metadata.labels.get(names.LABEL_NETWORK, "") if home is not None else ""
    return _networks(config, labelled), (*found, *_findings(config, key))


def addresses(item: core.Service) -> tuple[str, ...]:
    """The IP addresses that a Service has for clients outside of the cluster."""
    said = (*(one.ip for one in item.status.load_balancer.ingress), *item.spec.external_ips)
    return tuple(dict.fromkeys(one for one in said if values.is_address(one)))


def gateways(networks: Networks, services: Iterable[Service]) -> Gateways:
    """All gateways: those that MeshNetworks name, and those behind labelled Services."""
    found: dict[str, set[tuple[str, int]]] = {}
    for network, address, port in networks.gateways:
        found.setdefault(network, set()).add((address, port))
    for service in services:
        for network, port in _in_front_of(service, networks) if service.outside else ():
            found.setdefault(network, set()).update((address, port) for address in service.outside)
    return tuple((network, tuple(sorted(places))) for network, places in sorted(found.items()))


def known(networks: Networks, registry: Registry, recall: Recall) -> Gateways:
    """As ``gateways``, remembered."""
    return recall.of_many("gateways", (networks, registry), lambda: gateways(networks, registry.services))


def findings(item: core.Service) -> Iterator[Diagnostic]:
    """That a Service is in front of gateways, and nobody outside knows an IP address of it."""
    network = item.metadata.labels.get(names.LABEL_NETWORK)
    if network and not addresses(item):
        message = f"no IP address from outside: workloads of network {network!r} are not reached through it"
        yield warning(Code.NO_NETWORK_GATEWAY, item.key, f"metadata.labels[{names.LABEL_NETWORK}]", message)


def _in_front_of(service: Service, networks: Networks) -> Iterator[tuple[str, int]]:
    """Networks and ports of a Service: its label's, else those of MeshNetworks that name it."""
    labels = dict(service.labels)
    if service.kubernetes and (network := labels.get(names.LABEL_NETWORK)):
        said = labels.get(names.LABEL_GATEWAY_PORT, "")
        yield network, int(said) if _PORT_NUMBER.fullmatch(said) and int(said) <= _LAST_PORT else _PORT
        return
    yield from ((network, port) for network, host, port in networks.services if host == service.host)


def _networks(config: mesh_networks.MeshNetworks, labelled: str) -> Networks:
    own, ranges = "", []
    doors: list[tuple[str, str, int]] = []
    behind: list[tuple[str, str, int]] = []
    for name, network in sorted(config.networks.items()):
        for part in network.endpoints:
            if part.from_registry == names.CLUSTER_ID:
                own = own or name
            elif values.subnet(part.from_cidr) is None:
                ranges.append((part.from_cidr, name))
        for gateway in network.gateways:
            port = gateway.port if 0 < gateway.port <= _LAST_PORT else _PORT
            if values.is_address(gateway.address):
                doors.append((name, gateway.address, port))
            elif gateway.registry_service_name and _here(network):
                behind.append((name, gateway.registry_service_name.lower(), port))
    return Networks(default=labelled or own, ranges=tuple(ranges), gateways=tuple(doors), services=tuple(behind))


def _here(network: mesh_networks.Network) -> bool:
    """Whether this cluster is in a network: only then its Services stand in front of that network's gateways."""
    return any(part.from_registry == names.CLUSTER_ID for part in network.endpoints)


def _findings(config: mesh_networks.MeshNetworks, key: ConfigKey) -> Iterator[Diagnostic]:
    for name, network in sorted(config.networks.items()):
        place = f"{FIELD}.networks[{name}]"
        for i, part in enumerate(network.endpoints):
            if part.from_cidr and values.subnet(part.from_cidr):
                yield warning(Code.BAD_VALUE, key, f"{place}.endpoints[{i}].fromCidr", "is no range of addresses")
            if part.from_registry not in ("", names.CLUSTER_ID):
                message = f"there is one cluster here, {names.CLUSTER_ID!r}"
                yield warning(Code.INEFFECTIVE, key, f"{place}.endpoints[{i}].fromRegistry", message)
        for i, gateway in enumerate(network.gateways):
            yield from _of_gateway(gateway, key, f"{place}.gateways[{i}]", here=_here(network))


def _of_gateway(
    gateway: mesh_networks.IstioNetworkGateway, key: ConfigKey, place: str, *, here: bool
) -> Iterator[Diagnostic]:
    if not 0 <= gateway.port <= _LAST_PORT:
        yield warning(Code.BAD_VALUE, key, f"{place}.port", f"is no port: {_PORT} is taken")
    if gateway.address and not values.is_address(gateway.address):
        message = "is no IP address: names of gateways are not looked up"
        yield warning(Code.NO_NETWORK_GATEWAY, key, f"{place}.address", message)
    if gateway.registry_service_name and not here:
        message = f"counts only in a network with endpoints fromRegistry: {names.CLUSTER_ID}, as on Istio"
        yield warning(Code.INEFFECTIVE, key, f"{place}.registryServiceName", message)
