"""Sidecar objects: which one speaks for a workload, and what it says (features rows J1-J4).

Reading only. What its egress listeners let a proxy see is egress.py's, inbound listeners are inbound.py's.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from crds import sidecar as api
from crds import unhonoured
from crds.diagnostic import Code, Diagnostic, warning
from crds.key import NETWORKING, ConfigKey
from crds.virtual_service import Destination
from istiod.config.store import ConfigSnapshot
from istiod.mesh import creation, gateway_tls, protocol, traffic_policy
from istiod.mesh.grouping import grouped
from istiod.mesh.http_rules import Target
from istiod.mesh.policy import ConnectionPool
from istiod.mesh.scope import DownstreamTls
from istiod.mesh.service import Labels, Port
from istiod.mesh.settings import OutboundMode
from wire import decimal

ANY_NAMESPACE: Final = "*"
_OWN_NAMESPACE = "."
_NOTHING = "~"
UNIX: Final = "unix://"
"""What stands before the path of a Unix domain socket."""
Patterns = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Egress:
    """One egress listener. ``hosts`` are (namespace, name or pattern); "." is the namespace of the proxy.

    ``~namespace`` leaves out what the others let in, ``~`` empties the listener (as recorded from istiod).
    ``port`` is None for all ports of the services (its number is 0 for all of them behind one Unix domain socket),
    ``bind`` is "" for their own addresses, or ``unix://`` and a path. ``binds``: the app
    connects to it by its address, nothing is captured (so it is for every listener where the proxy captures nothing).
    """

    hosts: tuple[tuple[str, str], ...] = ((ANY_NAMESPACE, "*"),)
    port: Port | None = None
    bind: str = ""
    binds: bool | None = None

    def patterns(self, namespace: str) -> tuple[Patterns, Patterns]:
        """What proxies of ``namespace`` see by it, and what of that is left out, by namespace (``*``: every one)."""
        seen: dict[str, tuple[str, ...]] = {}
        hidden: dict[str, tuple[str, ...]] = {}
        if any(home == _NOTHING for home, _ in self.hosts):
            return seen, hidden
        for said, name in self.hosts:
            home = said.removeprefix(_NOTHING)
            found, place = (seen if home == said else hidden), namespace if home == _OWN_NAMESPACE else home
            found[place] = (*found.get(place, ()), name)
        return seen, hidden


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingress:
    """One inbound listener. ``address`` and ``target`` are where the app listens.

    ``address`` "" is where the connection was sent to (then ``target`` 0 is the same port), else 127.0.0.1, ::1 or the
    path of a Unix domain socket.
    """

    port: Port
    bind: str = ""
    binds: bool | None = None
    address: str = ""
    target: int = 0
    pool: ConnectionPool | None = None
    tls: DownstreamTls | None = None
    """TLS that the proxy ends for the app, where the port has no mesh mTLS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sidecar:
    """One Sidecar, read. An empty ``selector`` is a namespace's default; ``pool`` holds for every inbound port."""

    key: ConfigKey
    created: datetime | None
    selector: Labels = frozenset()
    egress: tuple[Egress, ...] = (Egress(),)
    ingress: tuple[Ingress, ...] = ()
    outbound: OutboundMode | None = None
    egress_proxy: Target | None = None
    """Where traffic for unknown hosts goes, with mode ALLOW_ANY."""
    pool: ConnectionPool | None = None
    diagnostics: tuple[Diagnostic, ...] = ()

    def pool_of(self, port: int) -> ConnectionPool | None:
        """What it says of connections to a port of the workload; None: nothing."""
        own = next((one.pool for one in self.ingress if one.port.number == port and one.pool), None)
        return own or self.pool


@dataclass(frozen=True, slots=True, kw_only=True)
class SidecarIndex:
    """All Sidecars by namespace, oldest first, and by key."""

    root_namespace: str = ""
    by_namespace: Mapping[str, tuple[Sidecar, ...]] = field(default_factory=dict)
    by_key: Mapping[ConfigKey, Sidecar] = field(default_factory=dict)

    def choose(self, namespace: str, labels: Labels) -> Sidecar | None:
        """The Sidecar of a workload: one that selects it, its namespace's default, the root namespace's default."""
        home = self.by_namespace.get(namespace, ())
        selecting = (one for one in home if one.selector and one.selector <= labels)
        return next(selecting, None) or _default(home) or _default(self.by_namespace.get(self.root_namespace, ()))


def build(snapshot: ConfigSnapshot, root_namespace: str, previous: SidecarIndex) -> SidecarIndex:
    """The index of a snapshot; ``previous`` where it says the same."""
    objects = snapshot.of(NETWORKING, "Sidecar").values()
    found = sorted((_read(item) for item in objects if isinstance(item, api.Sidecar)), key=_age)
    index = SidecarIndex(
        root_namespace=root_namespace,
        by_namespace=grouped((one.key.namespace, one) for one in found),
        by_key={one.key: one for one in found},
    )
    return previous if index == previous else index


def findings(index: SidecarIndex, workloads: Iterable[tuple[str, Labels]]) -> Iterator[Diagnostic]:
    """What of the Sidecars has no effect. ``workloads`` are the pods' namespaces and labels."""
    labels: dict[str, list[Labels]] = {}
    for namespace, own in workloads:
        if namespace in index.by_namespace:
            labels.setdefault(namespace, []).append(own)
    for namespace, home in index.by_namespace.items():
        default = _default(home)
        for one in home:
            yield from one.diagnostics
            if one.selector and not any(one.selector <= own for own in labels.get(namespace, ())):
                message = f"no pod in {namespace} has these labels"
                yield warning(Code.INEFFECTIVE, one.key, "spec.workloadSelector.labels", message)
            elif not one.selector and default is not None and default is not one:
                message = f"{default.key} is older and the default of the namespace; this one has no effect"
                yield warning(Code.INEFFECTIVE, one.key, "spec.workloadSelector", message)


def _unsupported(item: api.Sidecar) -> Iterator[Diagnostic]:
    spec = item.spec
    for path, reason in _of_ingress(spec):
        yield warning(Code.NOT_SUPPORTED, item.key, path, reason)
    yield from unhonoured.findings(item)


def _of_ingress(spec: api.SidecarSpec) -> Iterator[tuple[str, str]]:
    """Fields of inbound listeners without effect: certificates that nothing asks for."""
    for i, listener in enumerate(spec.ingress):
        for name, reason in gateway_tls.without_effect(listener.tls, secrets=False) if listener.tls else ():
            yield f"spec.ingress[{i}].tls.{name}", reason


def _default(home: Iterable[Sidecar]) -> Sidecar | None:
    return next((one for one in home if not one.selector), None)


def _age(one: Sidecar) -> creation.Age:
    return creation.age(one.created, one.key.name, one.key.namespace)


def _read(item: api.Sidecar) -> Sidecar:
    spec, policy = item.spec, item.spec.outbound_traffic_policy
    return Sidecar(
        key=item.key,
        created=item.metadata.creation_timestamp,
        selector=frozenset(spec.workload_selector.labels.items()) if spec.workload_selector else frozenset(),
        egress=tuple(map(_egress, spec.egress)) or (Egress(),),
        ingress=tuple(_ingress(one, one.port) for one in spec.ingress if one.port),
        outbound=OutboundMode[policy.mode] if policy else None,
        egress_proxy=_target(policy.egress_proxy) if policy and policy.egress_proxy else None,
        pool=traffic_policy.connection_pool(spec.inbound_connection_pool) if spec.inbound_connection_pool else None,
        diagnostics=tuple(_unsupported(item)),
    )


def _egress(said: api.IstioEgressListener) -> Egress:
    split, socket = (host.partition("/") for host in said.hosts), said.bind.startswith(UNIX)
    return Egress(
        hosts=tuple((home, name.lower()) for home, slash, name in split if slash),
        port=_port(said.port) if said.port and (said.port.number or socket) else None,
        bind=said.bind,
        binds=socket or _binds(said.capture_mode),
    )


def _target(said: Destination) -> Target:
    """A destination by its full name: no other is admitted."""
    return Target(host=said.host.lower(), subset=said.subset, port=said.port.number if said.port else 0)


def _ingress(said: api.IstioIngressListener, port: api.SidecarPort) -> Ingress:
    address, target = _endpoint(said.default_endpoint)
    return Ingress(
        port=_port(port),
        bind=said.bind,
        binds=_binds(said.capture_mode),
        address=address,
        target=target,
        tls=gateway_tls.read(said.tls, http=True, secrets=False).context if said.tls else None,
        pool=traffic_policy.connection_pool(said.connection_pool) if said.connection_pool else None,
    )


def _endpoint(said: str) -> tuple[str, int]:
    """Address and port of ``127.0.0.1:8080``, ``[::1]:8080``, ``0.0.0.0:8080`` (the pod's own address) or a socket."""
    if said.startswith(UNIX):
        return said.removeprefix(UNIX), 0
    address, _, port = said.rpartition(":")
    number = decimal.number(port)
    if number is None:
        return "", 0
    address = address.strip("[]")
    return ("" if ipaddress.ip_address(address).is_unspecified else address), number


def _binds(mode: api.CaptureMode) -> bool | None:
    return None if mode == "DEFAULT" else mode == "NONE"


def _port(said: api.SidecarPort) -> Port:
    return Port(number=said.number, name=said.name, protocol=protocol.parse(said.protocol))
