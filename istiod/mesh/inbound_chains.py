"""Filter chains of virtualInbound: per mTLS mode and kind of port, as Istio's clients expect them (rows N1, N2, S49).

The tables are what the recorded istiod sends: TLS with Istio's ALPN is mesh mTLS and terminated; TLS without it is the
app's own and passed through where the mode allows; plaintext goes to the raw chain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from istiod.config.origin import Origin
from istiod.mesh import jwt
from istiod.mesh.authorization import Authorization
from istiod.mesh.policy import MutualTls
from istiod.mesh.rate_limits import RateLimits
from istiod.mesh.route import RouteTable
from istiod.mesh.scope import Chain, ChainMatch, DownstreamTls, Http, Tcp, WeightedCluster
from istiod.mesh.service import Protocol

_TLS = "tls"
_RAW = "raw_buffer"
_MESH_ALPN = ("istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2")
_MESH_HTTP_ALPN = ("istio-http/1.0", "istio-http/1.1", "istio-h2")
_MESH_TCP_ALPN = ("istio-peer-exchange", "istio")
PLAINTEXT_HTTP: Final = ("http/1.1", "h2c")
"""What the HTTP inspector says of plaintext HTTP."""

_HTTP_TLS = DownstreamTls(workload=True, mutual=True, alpn=("h2", "http/1.1"))
_TCP_TLS = DownstreamTls(workload=True, mutual=True, alpn=("istio-peer-exchange", "h2", "http/1.1"))


class _Layer(Enum):
    """What is made of the bytes."""

    HTTP = "http"
    TCP = "tcp"


@dataclass(frozen=True, slots=True)
class _Way:
    """One way in: what the first bytes look like, and what is done with them."""

    transport: str
    alpn: tuple[str, ...]
    layer: _Layer
    tls: DownstreamTls | None


_Ways = Mapping[MutualTls, tuple[_Way, ...]]

_HTTP: _Ways = {
    MutualTls.PERMISSIVE: (_Way(_TLS, _MESH_ALPN, _Layer.HTTP, _HTTP_TLS), _Way(_RAW, (), _Layer.HTTP, None)),
    MutualTls.STRICT: (_Way(_TLS, (), _Layer.HTTP, _HTTP_TLS),),
    MutualTls.DISABLE: (_Way(_RAW, (), _Layer.HTTP, None),),
}
_TCP: _Ways = {
    MutualTls.PERMISSIVE: (
        _Way(_TLS, _MESH_ALPN, _Layer.TCP, _TCP_TLS),
        _Way(_TLS, (), _Layer.TCP, None),
        _Way(_RAW, (), _Layer.TCP, None),
    ),
    MutualTls.STRICT: (_Way(_TLS, (), _Layer.TCP, _TCP_TLS),),
    MutualTls.DISABLE: (_Way(_RAW, (), _Layer.TCP, None),),
}
_SNIFFED: _Ways = {
    MutualTls.PERMISSIVE: (
        _Way(_TLS, _MESH_HTTP_ALPN, _Layer.HTTP, _HTTP_TLS),
        _Way(_RAW, PLAINTEXT_HTTP, _Layer.HTTP, None),
        _Way(_TLS, _MESH_TCP_ALPN, _Layer.TCP, _TCP_TLS),
        _Way(_RAW, (), _Layer.TCP, None),
        _Way(_TLS, (), _Layer.TCP, None),
    ),
    MutualTls.STRICT: (_Way(_TLS, _MESH_HTTP_ALPN, _Layer.HTTP, _HTTP_TLS), _Way(_TLS, (), _Layer.TCP, _TCP_TLS)),
    MutualTls.DISABLE: (
        _Way(_RAW, PLAINTEXT_HTTP, _Layer.HTTP, None),
        _Way(_RAW, (), _Layer.TCP, None),
        _Way(_TLS, (), _Layer.TCP, None),  # where the TLS inspector is on for the sake of other ports
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where the chains of one port (0: all undeclared ports) lead, and their names."""

    port: int
    http_name: str
    tcp_name: str
    http_stats: str
    cluster: str
    routes: RouteTable
    origin: Origin | None
    authorization: Authorization | None = None
    tokens: jwt.Providers = ()
    limits: RateLimits = ()


def chains(target: Target, protocol: Protocol, mode: MutualTls) -> tuple[Chain, ...]:
    """The chains of a port that speaks ``protocol`` under a mode."""
    ways = _HTTP if protocol.is_http else _SNIFFED if protocol is Protocol.UNSUPPORTED else _TCP
    return tuple(_chain(target, way, protocol) for way in ways[mode])


def terminating(target: Target, protocol: Protocol, tls: DownstreamTls) -> Chain:
    """The chain of a port whose own TLS the proxy ends (row J2); plaintext has none. Clients are no mesh identities."""
    is_http = protocol.is_http or protocol is Protocol.HTTPS
    found = _chain(target, _Way(_TLS, (), _Layer.HTTP if is_http else _Layer.TCP, tls), Protocol.TCP)
    return replace(found, http=replace(found.http, mesh_tls=False)) if found.http else found


def _chain(target: Target, way: _Way, protocol: Protocol) -> Chain:
    is_http = way.layer is _Layer.HTTP
    http = Http(
        stat_prefix=target.http_stats,
        inline=target.routes,
        mesh_tls=way.tls is not None,
        grpc_web=protocol is Protocol.GRPC_WEB,
        authorization=target.authorization,
        tokens=target.tokens,
        limits=target.limits,
    )
    tcp = Tcp(
        stat_prefix=target.cluster,
        clusters=(WeightedCluster(cluster=target.cluster),),
        mongo=protocol is Protocol.MONGO,
        authorization=target.authorization,
    )
    return Chain(
        name=target.http_name if is_http else target.tcp_name,
        match=ChainMatch(
            destination_port=target.port, transport_protocol=way.transport, application_protocols=way.alpn
        ),
        tls=way.tls,
        http=http if is_http else None,
        tcp=None if is_http else tcp,
        origin=target.origin,
    )
