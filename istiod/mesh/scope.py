"""What one class of proxies gets, decided: the compiler's only argument and so its cache key (DESIGN section 2).

Everything here is Envoy-shaped in structure (listeners, chains, clusters, route tables) and Envoy-free in type.
istiod.envoy turns it into bytes one to one and decides nothing. Leaves (Cluster, Listener, RouteTable, VirtualHost) are
interned by content: an unchanged one is the same object after a rebuild, so compiled bytes are found by identity.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum

from crds.key import ConfigKey
from istiod.config.origin import Origin
from istiod.mesh import jwt, node_settings
from istiod.mesh.authorization import Authorization
from istiod.mesh.endpoint import Endpoint, Query
from istiod.mesh.envoy_filters import PatchSet
from istiod.mesh.envoy_release import Release
from istiod.mesh.families import Families
from istiod.mesh.name_table import Name
from istiod.mesh.node_settings import NodeSettings
from istiod.mesh.policy import TlsMode, TrafficPolicy, Tunnel
from istiod.mesh.rate_limits import RateLimits
from istiod.mesh.route import RouteTable
from istiod.mesh.service import Protocol
from istiod.mesh.settings import MeshSettings
from wire.node import Locality, NodeType


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeKey:
    """Which proxies share one scope: everything that may change what they get, and nothing more.

    ``labels`` are the proxy's labels only where a selector-bound object (Sidecar, DestinationRule workloadSelector,
    sourceLabels, Gateway) may look at them; ids of the matching objects stand for them, so that equal answers share.
    ``ports`` matter for routers only: where their Services send a port, each once. ``sidecar`` is the Sidecar
    that speaks for the workload; scopes of several share their equal leaves. ``families``: what the workload speaks.
    ``captured``: iptables bring its traffic (interception mode NONE does not).
    """

    type: NodeType
    namespace: str
    matched: tuple[str, ...] = ()
    ports: tuple[tuple[int, int], ...] = ()
    served: tuple[tuple[str, int, int], ...] = ()
    """For routers: hosts of Services that Gateways name, with their ports and where they send these."""
    sidecar: ConfigKey | None = None
    families: Families = Families.IPV4
    captured: bool = True
    http_proxy: int = 0
    """The port that apps may name as their HTTP proxy; 0: none."""
    own: NodeSettings = node_settings.NOTHING
    allocated: tuple[int, ...] = ()
    """The IP versions of allocated addresses that the proxy answers DNS queries with."""
    names: bool = False
    """Whether its agent answers DNS queries at all."""
    credentials: bool = False
    """Whether it may have the Secrets of its namespace: routers, and sidecars that a DestinationRule selects."""
    external_credentials: bool = False
    """Whether somebody serves keys in its pod, which credentials ``sds://...`` name."""
    authorized_by: tuple[ConfigKey, ...] = ()
    """The AuthorizationPolicies that hold for it, of routers: those of sidecars are in their inbound scope."""
    tokens: tuple[str, ...] = ()
    """RequestAuthentications that hold for a router, as ``namespace/name``; sidecars have theirs on the way in."""
    limited_by: tuple[ConfigKey, ...] = ()
    """LocalRateLimits that hold for a router; those of sidecars are in their inbound scope."""
    envoy: Release = Release.CURRENT
    """The Envoy that it is: to older ones some things are not said."""
    patched: tuple[str, ...] = ()
    """For routers: clusters that EnvoyFilters for it name, beside those that its routes lead to."""
    locality: Locality | None = None
    """Where it is; None where that changes none of its clusters (endpoints of EDS go by the view)."""


HTTP_APPLICATION_PROTOCOLS = ("http/1.1", "h2c")
"""What Envoy's HTTP inspector calls HTTP."""


class Discovery(Enum):
    """How Envoy finds a cluster's endpoints."""

    EDS = "EDS"
    STATIC = "STATIC"
    STRICT_DNS = "STRICT_DNS"
    LOGICAL_DNS = "LOGICAL_DNS"
    ORIGINAL_DST = "ORIGINAL_DST"
    DYNAMIC_DNS = "DYNAMIC_DNS"  # Envoy resolves the name that a request or a TLS connection asks for


class Direction(Enum):
    """Which way traffic goes, seen from the app."""

    INBOUND = "INBOUND"
    OUTBOUND = "OUTBOUND"
    GATEWAY = "GATEWAY"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceRef:
    """The service that a cluster stands for, for metadata and metrics."""

    host: str
    name: str
    namespace: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsCache:
    """Where Envoy keeps the names that it resolves on demand (dynamic forward proxy).

    Filters look names up and clusters take them from the cache of that name, for which all of a proxy's resources must
    say the same: Envoy refuses a second one of another content, also after the first has gone.
    """

    name: str
    families: Families = Families.IPV4
    most_hosts: int = 0
    """How many names it holds; 0: Envoy's default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """What a TLS connection needs on its way to a cluster with a cache: its server name looked up, and a port."""

    cache: DnsCache
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamTls:
    """TLS of a cluster, decided (auto mTLS included). ``subject_alt_names`` are complete SPIFFE URIs or DNS names.

    AUTO and ISTIO_MUTUAL use the workload's own certificate (SDS ``default`` and ``ROOTCA``). ``ca_crl`` is a file; a
    credential has the list of revoked certificates in its Secret.
    """

    mode: TlsMode
    sni: str = ""
    subject_alt_names: tuple[str, ...] = ()
    client_certificate: str = ""
    private_key: str = ""
    ca_certificates: str = ""
    ca_crl: str = ""
    credential_name: str = ""
    insecure_skip_verify: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """One upstream cluster.

    ``query`` is set for EDS, ``endpoints`` for STATIC and DNS clusters (a DNS name stands in Endpoint.address),
    ``cache`` for DYNAMIC_DNS.
    ``downstream_protocol``: speak what the client speaks (Envoy's use_downstream_protocol_config); else ``protocol``
    decides between HTTP/1.1, HTTP/2 and TCP.
    """

    name: str
    discovery: Discovery
    direction: Direction
    services: tuple[ServiceRef, ...] = ()
    port: int = 0
    subset: str = ""
    protocol: Protocol = Protocol.TCP
    downstream_protocol: bool = False
    policy: TrafficPolicy = field(default_factory=TrafficPolicy)
    tls: UpstreamTls | None = None
    query: Query | None = None
    endpoints: tuple[Endpoint, ...] = ()
    bind_addresses: tuple[str, ...] = ()
    """Source addresses towards the app, one for each IP version (inbound: 127.0.0.6 and ::6)."""
    port_override: int = 0
    """Go to this port of the original destination, or of a host that is resolved by its server name."""
    cache: DnsCache | None = None
    families: Families = Families.IPV4
    """Which addresses a DNS name may stand for."""
    locality: Locality | None = None
    """Where the client is, if its ``endpoints`` are spread by that."""
    origin: Origin | None = None
    """The DestinationRule that shaped it, if any: object only, no field."""
    mesh_external: bool = False
    """Its hosts are outside of the mesh."""
    stat_name: str = ""
    """What it is called in statistics; "": as itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainMatch:
    """When a filter chain applies; empty parts do not look. ``transport_protocol`` is "", ``tls`` or ``raw_buffer``."""

    destination_port: int = 0
    prefixes: tuple[str, ...] = ()
    server_names: tuple[str, ...] = ()
    transport_protocol: str = ""
    application_protocols: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DownstreamTls:
    """TLS that a listener terminates.

    ``mutual``: ask for a client certificate and, unless ``optional``, require it. ``workload``: the proxy's own mesh
    certificate (SDS ``default``, peers verified against ``ROOTCA`` and the trust domain); else ``credential_name`` (an
    SDS secret of ours, ``kubernetes://NAME``) or files. ``more_credentials`` and ``more_files`` (certificate, key) are
    certificates of another key type. Clients are verified against ``ca_credential_name``, else the first certificate's
    own CA, else ``ca_file``; ``spki`` and ``hashes`` pin them. ``alpn`` is what we offer. ``gateway``: strangers may
    come; Envoy's own parameters hold where none are given, and any workload of the mesh is welcome.
    """

    workload: bool
    mutual: bool
    alpn: tuple[str, ...]
    credential_name: str = ""
    certificate_file: str = ""
    key_file: str = ""
    ca_file: str = ""
    crl_file: str = ""
    subject_alt_names: tuple[str, ...] = ()
    min_version: str = ""
    max_version: str = ""
    cipher_suites: tuple[str, ...] = ()
    optional: bool = False
    more_credentials: tuple[str, ...] = ()
    ca_credential_name: str = ""
    more_files: tuple[tuple[str, str], ...] = ()
    spki: tuple[str, ...] = ()
    hashes: tuple[str, ...] = ()
    gateway: bool = False
    accept_untrusted: bool = False
    """Clients whose certificate does not hold may come all the same: whoever is behind has to look at it."""

    @property
    def clients_credential(self) -> str:
        """The credential that clients are verified by; "" where that is a file or the mesh's root, or nobody is."""
        return (self.ca_credential_name or self.credential_name) if self.mutual else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A secret of ours, by its SDS name (``kubernetes://NAME``): a certificate with its key, or a root with its CRL."""

    name: str
    certificate: bytes = b""
    key: bytes = field(default=b"", repr=False)
    root: bytes = b""
    crl: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedCluster:
    """A TCP destination and its share. One that is not ``known`` has no cluster: connections to it are closed."""

    cluster: str
    weight: int = 1
    known: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Http:
    """HTTP on a chain: routes by RDS name (outbound, gateways) or inline (inbound). Exactly one is set."""

    stat_prefix: str
    rds: str = ""
    inline: RouteTable | None = None
    mesh_tls: bool = False
    """On an inbound chain: clients come by mesh mTLS, their certificate and peer header may be believed."""
    grpc_web: bool = False
    """The port declares gRPC-Web: bridge it to gRPC."""
    caches: tuple[DnsCache, ...] = ()
    """Where the hosts of requests are looked up that go to clusters with such a cache."""
    authorization: Authorization | None = None
    """Which requests are let in; None: all."""
    tokens: jwt.Providers = ()
    """Whose tokens are looked at; of others, and of none, nothing is known."""
    limits: RateLimits = ()
    """How many requests are taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tcp:
    """Opaque bytes on a chain."""

    stat_prefix: str
    clusters: tuple[WeightedCluster, ...]
    idle_timeout: timedelta | None = None
    lookups: tuple[Lookup, ...] = ()
    hash_source: bool = False
    """Endpoints are picked by the client's address, where the cluster hashes (consistentHash useSourceIp)."""
    mongo: bool = False
    """The port declares MongoDB: its commands are counted."""
    tunnel: Tunnel | None = None
    authorization: Authorization | None = None
    """Which connections are let in; None: all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """One filter chain: when, TLS, and what then (exactly one of ``http`` and ``tcp``)."""

    name: str
    match: ChainMatch = field(default_factory=ChainMatch)
    tls: DownstreamTls | None = None
    http: Http | None = None
    tcp: Tcp | None = None
    origin: Origin | None = None
    """The object that caused it (VirtualService for TCP routes, Gateway, PeerAuthentication): object only, no field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """One listener.

    ``inspect_tls`` and ``inspect_http`` ask for the inspectors; the port sets are destination ports on which each is
    switched off (inbound). ``original_dst``: hand over or match by the address before redirection.
    """

    name: str
    address: str
    port: int
    direction: Direction
    bind: bool = True
    chains: tuple[Chain, ...] = ()
    default_chain: Chain | None = None
    use_original_dst: bool = False
    inspect_tls: bool = False
    inspect_http: bool = False
    tls_inspector_off: tuple[int, ...] = ()
    http_inspector_off: tuple[int, ...] = ()
    detection_timeout: timedelta | None = None
    """How long inspectors may wait; None: the listener has none. 0 is for ever (Istio's default)."""
    continue_on_timeout: bool = True
    own: NodeSettings = node_settings.NOTHING
    additional_addresses: tuple[str, ...] = ()

    @property
    def places(self) -> tuple[tuple[str, int], ...]:
        """Every address and port that it stands for: no other listener may have one of them."""
        return tuple((address, self.port) for address in (self.address, *self.additional_addresses))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OutboundScope:
    """What every proxy of one ScopeKey gets for traffic that leaves the app (or enters a gateway), by name."""

    key: ScopeKey
    clusters: Mapping[str, Cluster]
    listeners: Mapping[str, Listener]
    routes: Mapping[str, RouteTable]
    secrets: Mapping[str, Credential] = field(default_factory=dict)
    names: tuple[Name, ...] | None = None
    """What its agent answers DNS queries with; None where it answers none."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InboundScope:
    """What a workload shape adds for traffic that enters the app. No pod name, no pod IP."""

    clusters: Mapping[str, Cluster]
    listeners: Mapping[str, Listener]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scope:
    """A proxy's whole scope: interned records. ``inbound`` is None for gateways, ``patches`` where none hold."""

    settings: MeshSettings
    outbound: OutboundScope
    inbound: InboundScope | None
    patches: PatchSet | None = None
