"""Services as the mesh sees them, whatever object they came from (Service or ServiceEntry)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final

from istiod.config.origin import Origin

Labels = frozenset[tuple[str, str]]
"""Labels as pairs: hashable, and ``selector <= labels`` is the match. Sort before anything becomes bytes."""


class Protocol(Enum):
    """The protocol of a port (features row D13). UNSUPPORTED means: not declared, to be sniffed."""

    HTTP = "HTTP"
    HTTP2 = "HTTP2"
    GRPC = "GRPC"
    GRPC_WEB = "GRPC-WEB"
    HTTP_PROXY = "HTTP_PROXY"
    HTTPS = "HTTPS"
    TLS = "TLS"
    TCP = "TCP"
    MONGO = "Mongo"
    REDIS = "Redis"
    MYSQL = "MySQL"
    UDP = "UDP"
    UNSUPPORTED = "UnsupportedProtocol"

    @property
    def is_http(self) -> bool:
        """HTTP in the clear: a route configuration applies."""
        return self in _HTTP

    @property
    def may_be_http(self) -> bool:
        """HTTP in the clear, or not declared."""
        return self.is_http or self is Protocol.UNSUPPORTED

    @property
    def is_http2(self) -> bool:
        """HTTP/2 without negotiation."""
        return self in _HTTP2

    @property
    def is_tls(self) -> bool:
        """TLS that the app speaks itself: routed by SNI."""
        return self in (Protocol.HTTPS, Protocol.TLS)

    @property
    def is_tcp(self) -> bool:
        """Opaque bytes (TLS of the app included)."""
        return not self.is_http and self not in (Protocol.UDP, Protocol.UNSUPPORTED)


_HTTP = frozenset({Protocol.HTTP, Protocol.HTTP2, Protocol.GRPC, Protocol.GRPC_WEB, Protocol.HTTP_PROXY})
_HTTP2 = frozenset({Protocol.HTTP2, Protocol.GRPC, Protocol.GRPC_WEB})


class Resolution(Enum):
    """How endpoints are found."""

    CLIENT_SIDE = "client-side"  # endpoints from us (EDS)
    DNS = "dns"  # Envoy resolves, all addresses (STRICT_DNS)
    DNS_ROUND_ROBIN = "dns-round-robin"  # Envoy resolves, one address at a time (LOGICAL_DNS)
    PASSTHROUGH = "passthrough"  # the original destination (headless, NONE)
    ALIAS = "alias"  # ExternalName: another host
    DYNAMIC_DNS = "dynamic-dns"  # Envoy resolves the name that the client asks for


NAMED: Final = frozenset({Resolution.DNS, Resolution.DNS_ROUND_ROBIN})
"""Envoy resolves what these have for endpoints."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """One port of a service. ``name`` may be "".

    ``target`` is the workload's port, by number or by the name of a container port; 0 is the same as ``number``.
    """

    number: int
    name: str
    protocol: Protocol
    target: int | str = 0


SAME_NODE: Final = "PreferSameNode"
"""Of trafficDistribution: endpoints of the client's node come first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A host of the registry.

    ``addresses`` are the virtual IPs (CIDRs for ServiceEntries that say so), () for headless and address-less hosts.
    ``export_to`` holds namespaces or "*"; an empty set is nobody. ``name`` is the Kubernetes Service's name, or the
    host itself. ``created`` orders conflicts (oldest first; None, meaning unknown, counts as oldest).
    """

    host: str
    name: str
    namespace: str
    ports: tuple[Port, ...]
    addresses: tuple[str, ...]
    resolution: Resolution
    mesh_external: bool
    kubernetes: bool
    headless: bool
    selector: Labels
    labels: Labels
    export_to: frozenset[str]
    external_name: str
    created: datetime | None
    origin: Origin
    subject_alt_names: tuple[str, ...] = ()
    """SANs that the object itself names (ServiceEntry subjectAltNames)."""
    node_local: bool = False
    traffic_distribution: str = ""
    outside: tuple[str, ...] = ()
    """Its addresses and DNS names for clients outside of the cluster; known of gateways of networks only."""
    allocated: tuple[str, ...] = ()
    """Addresses that the mesh gave to a host without any; only proxies that capture DNS know them (row H7)."""

    @property
    def looks_at_nodes(self) -> bool:
        """Whether it matters to its endpoints which node a proxy is on."""
        return self.node_local or self.traffic_distribution == SAME_NODE

    def port(self, number: int) -> Port | None:
        """The port of that number, or None."""
        return next((p for p in self.ports if p.number == number), None)
