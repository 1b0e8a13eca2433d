"""Networks: which one an address is in, and by which gateways one gets into it (features rows R10, T3).

A cluster may have workloads that its pods do not reach by address: virtual machines, or pods of another network. What a
proxy is sent instead of them is istiod.envoy.crossings'. Who looks up the names of gateways is istiod.gateway_names.
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
from istiod.config.gateway_names import Addresses, Wishes
from istiod.config.store import ConfigSnapshot
from istiod.mesh.recall import Recall
from istiod.mesh.registry import Registry
from istiod.mesh.service import Service
from wire import names

FIELD: Final = "data.meshNetworks"
_STATUS: Final = "status.loadBalancer.ingress"
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
    default. ``gateways`` are said by address or DNS name, ``services`` by the host of the Service in front of them;
    each with its network and port. ``named`` is where DNS names are said.
    """

    default: str = ""
    ranges: tuple[tuple[str, str], ...] = ()
    gateways: tuple[tuple[str, str, int], ...] = ()
    services: tuple[tuple[str, str, int], ...] = ()
    named: tuple[tuple[str, ConfigKey, str], ...] = ()

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
    return _networks(config, labelled, key), (*found, *_findings(config, key))


def addresses(item: core.Service) -> tuple[str, ...]:
    """The IP addresses that a Service has for clients outside of the cluster, and DNS names of its load balancer."""
    balanced = (one.ip or one.hostname.lower() for one in item.status.load_balancer.ingress)
    return tuple(dict.fromkeys(one for one in (*balanced, *item.spec.external_ips) if _is_place(one)))


def gateways(networks: Networks, services: Iterable[Service], known: Addresses) -> Gateways:
    """All gateways: those that MeshNetworks name, and those behind labelled Services. ``known`` is what names are."""
    found: dict[str, set[tuple[str, int]]] = {}
    for network, place, port in _places(networks, services):
        if at := (place,) if values.is_address(place) else known.get(place, ()):
            found.setdefault(network, set()).update((address, port) for address in at)
    return tuple((network, tuple(sorted(places))) for network, places in sorted(found.items()))


def known(networks: Networks, registry: Registry, addresses: Addresses, recall: Recall) -> Gateways:
    """As ``gateways``, remembered."""
    inputs = (networks, registry, addresses)
    return recall.of_many("gateways", inputs, lambda: gateways(networks, registry.services, addresses))


def wishes(networks: Networks, services: Iterable[tuple[ConfigKey, tuple[str, ...]]]) -> Wishes:
    """The DNS names of gateways; ``services`` are those in front of some, with what they are called outside."""
    said = [*networks.named, *((place, key, _STATUS) for key, places in services for place in places)]
    found: dict[str, list[tuple[ConfigKey, str]]] = {}
    for place, key, field in said:
        if not values.is_address(place):
            found.setdefault(place, []).append((key, field))
    return {name: tuple(sorted(places)) for name, places in sorted(found.items())}


def first_wishes(snapshot: ConfigSnapshot) -> Wishes:
    """The same before there is a mesh, for a start that waits for the answers."""
    networks, _ = read(snapshot, snapshot.mesh_config.namespace, NOTHING)
    end = f"svc.{snapshot.features.dns_domain}"
    items = {key: item for key, item in snapshot.of("", "Service").items() if isinstance(item, core.Service)}
    doors = {key: item for key, item in items.items() if networks.names(item, f"{key.name}.{key.namespace}.{end}")}
    return wishes(networks, ((key, addresses(item)) for key, item in doors.items()))


def findings(item: core.Service) -> Iterator[Diagnostic]:
    """That a Service is in front of gateways, and nobody outside knows where it is."""
    network = item.metadata.labels.get(names.LABEL_NETWORK)
    if network and not addresses(item):
        message = f"no address from outside: workloads of network {network!r} are not reached through it"
        yield warning(Code.NO_NETWORK_GATEWAY, item.key, f"metadata.labels[{names.LABEL_NETWORK}]", message)


def _is_place(text: str) -> bool:
    """Whether it is an IP address or a DNS name."""
    return values.is_address(text) or (bool(text) and values.domain(text) is None)


def _places(networks: Networks, services: Iterable[Service]) -> Iterator[tuple[str, str, int]]:
    """Network, address or name, and port of each gateway."""
    yield from networks.gateways
    for service in services:
        for network, port in _in_front_of(service, networks) if service.outside else ():
            yield from ((network, place, port) for place in service.outside)


def _in_front_of(service: Service, networks: Networks) -> Iterator[tuple[str, int]]:
    """Networks and ports of a Service: its label's, else those of MeshNetworks that name it."""
    labels = dict(service.labels)
    if service.kubernetes and (network := labels.get(names.LABEL_NETWORK)):
        said = labels.get(names.LABEL_GATEWAY_PORT, "")
        yield network, int(said) if _PORT_NUMBER.fullmatch(said) and int(said) <= _LAST_PORT else _PORT
        return
    yield from ((network, port) for network, host, port in networks.services if host == service.host)


def _networks(config: mesh_networks.MeshNetworks, labelled: str, key: ConfigKey) -> Networks:
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
            if _is_place(gateway.address):
                doors.append((name, gateway.address.lower(), port))
            elif gateway.registry_service_name and _here(network):
                behind.append((name, gateway.registry_service_name.lower(), port))
    return Networks(
        default=labelled or own,
        ranges=tuple(ranges),
        gateways=tuple(doors),
        services=tuple(behind),
        named=tuple(_named(config, key)),
    )


def _named(config: mesh_networks.MeshNetworks, key: ConfigKey) -> Iterator[tuple[str, ConfigKey, str]]:
    for name, network in sorted(config.networks.items()):
        for i, gateway in enumerate(network.gateways):
            if _is_place(gateway.address) and not values.is_address(gateway.address):
                yield gateway.address.lower(), key, f"{FIELD}.networks[{name}].gateways[{i}].address"


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
    if gateway.address and not _is_place(gateway.address):
        message = "is neither an IP address nor a DNS name"
        yield warning(Code.NO_NETWORK_GATEWAY, key, f"{place}.address", message)
    if gateway.registry_service_name and not here:
        message = f"counts only in a network with endpoints fromRegistry: {names.CLUSTER_ID}, as on Istio"
        yield warning(Code.INEFFECTIVE, key, f"{place}.registryServiceName", message)
