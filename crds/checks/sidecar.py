"""Sidecar: listeners and hosts (features rows J1-J4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from crds.checks import labels, server_tls, traffic_policy, values
from crds.checks.findings import Findings
from crds.checks.patterns import repeated
from crds.gateway import ServerTLSSettings
from crds.service_entry import LabelsSelector
from crds.sidecar import IstioEgressListener, IstioIngressListener, OutboundTrafficPolicy, Sidecar, SidecarPort
from crds.virtual_service import Destination
from wire import decimal

_LOCAL: Final = frozenset({"", "127.0.0.1", "0.0.0.0", "[::1]", "[::]"})  # noqa: S104 (what users may write)
_UNIX: Final = "unix://"


def check(item: Sidecar, found: Findings) -> None:
    """Everything that one Sidecar can be wrong about."""
    spec = item.spec
    _selector(found, spec.workload_selector)
    if not (spec.ingress or spec.egress or spec.outbound_traffic_policy or spec.inbound_connection_pool):
        found.error("spec", "says nothing")
    if spec.inbound_connection_pool is not None:
        traffic_policy.pool(found, "spec.inboundConnectionPool", spec.inbound_connection_pool)
    for index, listener in enumerate(spec.ingress):
        _ingress(found, f"spec.ingress[{index}]", listener)
    _unique(found, "spec.ingress", spec.ingress)
    for index, outbound in enumerate(spec.egress):
        field = f"spec.egress[{index}]"
        if outbound.port is None and index != len(spec.egress) - 1:
            found.error(field, "a listener without port must be the last")
        _egress(found, field, outbound)
    _unique(found, "spec.egress", spec.egress)
    if spec.outbound_traffic_policy is not None and spec.outbound_traffic_policy.egress_proxy is not None:
        _egress_proxy(found, spec.outbound_traffic_policy, spec.outbound_traffic_policy.egress_proxy)


def _selector(found: Findings, selector: LabelsSelector | None) -> None:
    if selector is not None:
        labels.selector(found, "spec.workloadSelector.labels", selector.labels)
        if not selector.labels:
            found.warning("spec.workloadSelector", "has no labels, so that it selects the whole namespace")


def _egress_proxy(found: Findings, policy: OutboundTrafficPolicy, proxy: Destination) -> None:
    """Only where unknown hosts may be reached at all; a full name and a port."""
    field = "spec.outboundTrafficPolicy.egressProxy"
    if policy.mode != "ALLOW_ANY":
        found.error(field, "is for mode ALLOW_ANY only")
    found.check(f"{field}.host", values.domain(proxy.host))
    if proxy.subset and not values.is_label(proxy.subset):
        found.error(f"{field}.subset", f"{proxy.subset!r} is no subset name")
    if proxy.port is None:
        found.missing(f"{field}.port")
    else:
        found.check(f"{field}.port.number", values.port(proxy.port.number))


def _unique(found: Findings, field: str, listeners: Sequence[IstioIngressListener | IstioEgressListener]) -> None:
    """One listener for each port, whatever it binds to; one for each socket."""
    places = [(listener.port.number or listener.bind if listener.port is not None else "") for listener in listeners]
    for index, place in repeated(places):
        if place:
            found.refuse(f"{field}[{index}].port.number", f"{place} has a listener already")


def _ingress(found: Findings, field: str, listener: IstioIngressListener) -> None:
    if listener.port is None:
        found.missing(f"{field}.port")
    else:
        _port(found, f"{field}.port", listener.port)
        found.check(f"{field}.port.number", values.port(listener.port.number))
    if listener.bind and not values.is_address(listener.bind):
        found.error(f"{field}.bind", f"{listener.bind!r} is no IP address")
    found.check(f"{field}.defaultEndpoint", _endpoint(listener.default_endpoint))
    if listener.connection_pool is not None:
        traffic_policy.pool(found, f"{field}.connectionPool", listener.connection_pool)
    if listener.tls is not None:
        _tls(found, f"{field}.tls", listener.tls, listener.port)


def _endpoint(text: str) -> str | None:
    if text.startswith(_UNIX):
        return values.socket(text.removeprefix(_UNIX))
    if not text:
        return None
    host, _, port = text.rpartition(":")
    if host not in _LOCAL:
        return f"{text!r} is none of 127.0.0.1:PORT, 0.0.0.0:PORT, [::1]:PORT, [::]:PORT, unix://PATH"
    number = decimal.number(port)
    return f"{port!r} is no port number" if number is None else values.port(number)


def _tls(found: Findings, field: str, tls: ServerTLSSettings, port: SidecarPort | None) -> None:
    if tls.mode in {"ISTIO_MUTUAL", "AUTO_PASSTHROUGH"}:
        found.error(f"{field}.mode", f"{tls.mode} is not for Sidecar ingress")
    if port is not None and port.protocol.upper() not in {"HTTPS", "TLS"}:
        found.error(field, "only ports of protocol HTTPS or TLS have TLS")
    unsupported = {
        "httpsRedirect": tls.https_redirect,
        "credentialName": tls.credential_name,
        "credentialNames": tls.credential_names,
        "tlsCertificates": tls.tls_certificates,
        "subjectAltNames": tls.subject_alt_names,
    }
    for name in [name for name, value in unsupported.items() if value]:
        found.error(f"{field}.{name}", "is not for Sidecar ingress")
    server_tls.check(found, field, tls, secrets=False)


def _egress(found: Findings, field: str, listener: IstioEgressListener) -> None:
    if listener.port is not None:
        _port(found, f"{field}.port", listener.port)
        _place(found, field, listener, listener.port.number)
    if not listener.hosts:
        found.missing(f"{field}.hosts")
    for index, host in enumerate(listener.hosts):
        _host(found, f"{field}.hosts[{index}]", host)
    for index, host in repeated(listener.hosts):
        found.warning(f"{field}.hosts[{index}]", f"{host} stands twice")


def _port(found: Findings, field: str, port: SidecarPort) -> None:
    if port.name:
        found.refuse(f"{field}.name", values.port_name(port.name))
    found.refuse(f"{field}.protocol", values.protocol(port.protocol))
    if port.target_port:
        found.refuse(f"{field}.targetPort", "has no effect on Sidecars")


def _place(found: Findings, field: str, listener: IstioEgressListener, number: int) -> None:
    """Port 0 is for Unix domain sockets, which nothing is captured for; other ports are of IP addresses."""
    if number:
        found.check(f"{field}.port.number", values.port(number))
        if listener.bind and not values.is_address(listener.bind):
            is_socket = listener.bind.startswith(_UNIX)
            (found.refuse if is_socket else found.error)(f"{field}.bind", f"{listener.bind!r} is no IP address")
        return
    if listener.bind.startswith(_UNIX):
        found.refuse(f"{field}.bind", values.socket(listener.bind.removeprefix(_UNIX)))
    else:
        found.error(f"{field}.port.number", "port 0 is for listeners that bind to a unix:// path")
    if listener.capture_mode not in {"DEFAULT", "NONE"}:
        found.refuse(f"{field}.captureMode", "must be DEFAULT or NONE for a unix socket")


def _host(found: Findings, field: str, host: str) -> None:
    """``namespace/host``, ``~namespace/host`` to leave one out; "~/*" is nothing at all."""
    namespace, slash, name = host.partition("/")
    if not slash:
        found.error(field, f"{host!r} is not namespace/host")
        return
    if namespace not in {"*", ".", "~"} and not values.is_label(namespace.removeprefix("~")):
        found.error(field, f"{namespace!r} is no namespace")
    if name != "*":
        found.check(field, values.dotted_wildcard(name))
