"""Headers that proxies add or take away, and who is believed in front of a gateway (features rows E13, R8, S99).

The mesh configuration says it for all proxies (``defaultConfig``), a proxy in its metadata for itself: that is how the
annotation ``proxy.istio.io/config`` of its pod comes here. Source: Istio's ProxyConfig reference (ProxyHeaders and
Topology).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from pydantic import ValidationError

from crds import proxy_config as api

_UNDEFINED = "UNDEFINED"
_READ = ("proxyHeaders", "gatewayTopology")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyHeaders:
    """None and "" leave what else holds.

    ``server`` is the value of that header in responses; "" as the app's own stands. ``client_cert`` and
    ``gateway_client_cert`` are what becomes of x-forwarded-client-cert, by the names of Envoy's own enumeration; the
    latter is for gateways and wins there. ``cert_details`` are the parts of certificates in it. ``trusted_proxies``
    stand in front of a gateway, which ``proxy_protocol`` lets tell clients' addresses.
    """

    server: str | None = None
    request_id: bool | None = None
    attempt_count: bool | None = None
    debug_headers: bool | None = None
    client_cert: str = ""
    gateway_client_cert: str = ""
    cert_details: frozenset[str] | None = None
    preserve_case: bool | None = None
    forwarded_host: bool | None = None
    forwarded_port: bool | None = None
    trusted_proxies: int | None = None
    proxy_protocol: bool | None = None


NOTHING = ProxyHeaders()


def read(said: api.ProxyConfig) -> ProxyHeaders:
    """What a configuration says of headers."""
    found = NOTHING if said.proxy_headers is None else _of_headers(said.proxy_headers)
    topology = said.gateway_topology
    if topology is None:
        return found
    return replace(
        found,
        gateway_client_cert=_defined(topology.forward_client_cert_details),
        trusted_proxies=topology.num_trusted_proxies if "num_trusted_proxies" in topology.model_fields_set else None,
        proxy_protocol=True if topology.proxy_protocol is not None else None,
    )


def of_metadata(said: object) -> ProxyHeaders:
    """What a proxy's metadata say (``PROXY_CONFIG``); what cannot be read is as good as nothing."""
    if not isinstance(said, Mapping) or not any(name in said for name in _READ):
        return NOTHING
    try:
        return read(api.ProxyConfig.model_validate({name: said[name] for name in _READ if name in said}))
    except ValidationError:
        return NOTHING


def joined(mesh: ProxyHeaders, own: ProxyHeaders) -> ProxyHeaders:
    """Both: what a proxy says itself wins."""
    if own is NOTHING:
        return mesh
    said = {one.name: getattr(own, one.name) for one in fields(own) if one.name != "server"}
    return replace(
        mesh, **{name: value for name, value in said.items() if value not in (None, "")}, server=_server(mesh, own)
    )


def _server(mesh: ProxyHeaders, own: ProxyHeaders) -> str | None:
    return mesh.server if own.server is None else own.server


def _of_headers(said: api.ProxyHeaders) -> ProxyHeaders:
    details = said.set_current_client_cert_details
    parts = None
    if details is not None:
        parts = frozenset(name for name in api.CertDetails.model_fields if getattr(details, name))
    return ProxyHeaders(
        server=_value(said.server),
        request_id=_on(said.request_id),
        attempt_count=_on(said.attempt_count),
        debug_headers=_on(said.envoy_debug_headers),
        client_cert=_defined(said.forwarded_client_cert),
        cert_details=parts,
        preserve_case=said.preserve_http1_header_case,
        forwarded_host=said.x_forwarded_host.enabled if said.x_forwarded_host else None,
        forwarded_port=said.x_forwarded_port.enabled if said.x_forwarded_port else None,
    )


def _value(said: api.HeaderSwitch | None) -> str | None:
    if said is None:
        return None
    return "" if said.disabled else said.value or None


def _on(said: api.HeaderSwitch | None) -> bool | None:
    return None if said is None or said.disabled is None else not said.disabled


def _defined(said: str) -> str:
    return "" if said == _UNDEFINED else said
