"""Gateways, indexed, and the servers that one router runs: merged over objects, by listener port (E1-E3, E11).

A server that cannot share its port with an older one is left out and reported. Routes are gateway_routes'.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from crds import gateway, unhonoured
from crds.diagnostic import Code, Diagnostic, error, warning
from crds.key import NETWORKING, ConfigKey
from istiod.config.store import ConfigSnapshot
from istiod.mesh import creation, gateway_tls, protocol
from istiod.mesh.gateway_tls import Handling, ServerTls
from istiod.mesh.scope import DownstreamTls
from istiod.mesh.service import Port, Protocol, Service
from wire import names

Sent = tuple[str, int, int]
"""A Service's host, a port of it, and where it sends that."""

_PREFIX = "gateway:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One server of a Gateway. ``hosts`` are (namespace or "" for any, pattern)."""

    gateway: ConfigKey
    port: int
    protocol: Protocol
    hosts: tuple[tuple[str, str], ...]
    bind: str = ""
    https_redirect: bool = False
    port_name: str = ""
    tls: ServerTls | None = None

    @property
    def http(self) -> bool:
        """Whether its requests have a route table: plain HTTP, or HTTPS that ends here."""
        return self.protocol.is_http or (self.protocol is Protocol.HTTPS and self.ends_tls)

    @property
    def ends_tls(self) -> bool:
        """Whether TLS ends here."""
        return self.tls is not None and self.tls.handling is Handling.TERMINATE

    @property
    def context(self) -> DownstreamTls | None:
        """The TLS that ends here, or None."""
        return self.tls.context if self.tls else None

    @property
    def names(self) -> tuple[str, ...]:
        """The server names that it is for; () for all."""
        found = tuple(dict.fromkeys(name for _, name in self.hosts))
        return () if "*" in found else found

    @property
    def gateway_name(self) -> str:
        """The Gateway as VirtualServices name it: ``namespace/name``."""
        return f"{self.gateway.namespace}/{self.gateway.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """One object, read: the servers that we support, and what is wrong with the others.

    ``services`` are the hosts of the Services that it stands behind, instead of a selector: so it is written by
    controllers of other APIs.
    """

    key: ConfigKey
    created: datetime | None
    selector: frozenset[tuple[str, str]]
    servers: tuple[Server, ...]
    services: frozenset[str] = frozenset()
    diagnostics: tuple[Diagnostic, ...] = ()

    @property
    def id(self) -> str:
        """Its name in ScopeKey.matched."""
        return f"{_PREFIX}{self.key.namespace}/{self.key.name}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GatewayIndex:
    """All Gateways, oldest first. ``read`` remembers what each was read from."""

    gateways: tuple[Gateway, ...] = ()
    read: Mapping[ConfigKey, tuple[gateway.Gateway, Gateway]] = field(default_factory=dict)

    def matched(self, labels: Mapping[str, str], home: str = "") -> tuple[str, ...]:
        """The ids of the Gateways whose selector holds for a router's labels, sorted, for ScopeKey.matched.

        An empty selector is every router (features row E1). ``home`` is the namespace that they have to be of; "": any.
        """
        own = frozenset(labels.items())
        selecting = (one for one in self.gateways if not one.services and one.selector <= own)
        return tuple(sorted(one.id for one in selecting if home in ("", one.key.namespace)))

    def behind(self, targets: Iterable[tuple[Service, Port, int]]) -> tuple[tuple[str, ...], tuple[Sent, ...]]:
        """The ids of the Gateways behind the Services that send to a router, and where these send their ports."""
        naming = [one for one in self.gateways if one.services]
        ids, sent = set(), set()
        for service, port, target in targets if naming else ():
            for one in naming:
                if service.host in one.services and service.namespace == one.key.namespace:
                    ids.add(one.id)
                    sent.add((service.host, port.number, target))
        return tuple(sorted(ids)), tuple(sorted(sent))

    def selected(self, matched: Iterable[str]) -> Iterator[Gateway]:
        """The Gateways of a key's ids, oldest first; other ids in the key are passed over."""
        wanted = frozenset(matched)
        return (one for one in self.gateways if one.id in wanted)


def build(snapshot: ConfigSnapshot, previous: GatewayIndex | None = None) -> GatewayIndex:
    """The index of a snapshot; objects that ``previous`` has read already are not read again."""
    known = previous.read if previous is not None else {}
    found: dict[ConfigKey, tuple[gateway.Gateway, Gateway]] = {}
    for item in [one for one in snapshot.of(NETWORKING, "Gateway").values() if isinstance(one, gateway.Gateway)]:
        before = known.get(item.key)
        found[item.key] = before if before is not None and before[0] is item else (item, _read(item))
    ordered = sorted((one for _, one in found.values()), key=_age)
    return GatewayIndex(gateways=tuple(ordered), read=found)


def _age(one: Gateway) -> creation.Age:
    return creation.age(one.created, one.key.name, one.key.namespace)


def _read(item: gateway.Gateway) -> Gateway:
    servers: list[Server] = []
    findings: list[Diagnostic] = []
    for index, said in enumerate(item.spec.servers):
        problem = _problem(item.key, f"spec.servers[{index}]", said)
        if problem is not None:
            findings.append(problem)
            continue
        findings += _unsupported(item.key, f"spec.servers[{index}]", said)
        servers.append(_server(item.key, said))
    return Gateway(
        key=item.key,
        created=item.metadata.creation_timestamp,
        selector=frozenset(item.spec.selector.items()),
        servers=tuple(servers),
        services=_services(item.metadata.annotations.get(names.ANNOTATION_GATEWAY_SERVICE, "")),
        diagnostics=(*findings, *unhonoured.findings(item)),
    )


def _services(said: str) -> frozenset[str]:
    return frozenset(filter(None, (part.strip().lower() for part in said.split(","))))


def _server(key: ConfigKey, said: gateway.Server) -> Server:
    port = said.port or gateway.Port()
    spoken = protocol.parse(port.protocol)
    return Server(
        gateway=key,
        port=port.number,
        protocol=spoken,
        hosts=tuple(_host(name.lower(), key.namespace) for name in said.hosts),
        bind=said.bind,
        https_redirect=said.tls is not None and said.tls.https_redirect and spoken.is_http,
        port_name=port.name,
        tls=gateway_tls.read(said.tls, http=spoken is Protocol.HTTPS) if said.tls and not spoken.is_http else None,
    )


def _host(said: str, namespace: str) -> tuple[str, str]:
    """A server's host taken apart: ``ns/host``, ``./host`` (the Gateway's namespace), ``*/host`` and ``host`` (any)."""
    home, slash, name = said.rpartition("/")
    if not slash or home == "*":
        return "", name
    return (namespace if home == "." else home), name


def _problem(key: ConfigKey, place: str, said: gateway.Server) -> Diagnostic | None:
    """Why a server has no effect; None when it has."""
    if said.port is None or not said.port.number:
        return error(Code.MISSING_FIELD, key, f"{place}.port.number", "a server needs a port")
    spoken = protocol.parse(said.port.protocol)
    if spoken.is_tls and said.tls is None:
        return error(Code.MISSING_FIELD, key, f"{place}.tls", f"{spoken.value} needs tls: the server is left out")
    if not (spoken.is_http or spoken.is_tcp):
        message = f"{said.port.protocol or 'no protocol'}: the server is left out"
        return error(Code.NOT_SUPPORTED, key, f"{place}.port.protocol", message)
    return None


def _unsupported(key: ConfigKey, place: str, said: gateway.Server) -> Iterator[Diagnostic]:
    plaintext = said.port is not None and protocol.parse(said.port.protocol).is_http
    for name, reason in gateway_tls.without_effect(said.tls, plaintext=plaintext) if said.tls else ():
        yield warning(Code.NOT_SUPPORTED, key, f"{place}.tls.{name}", reason)
