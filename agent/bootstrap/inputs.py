"""What a bootstrap is made of: ProxyConfig with its defaults, and everything that the pod says of itself.

Gathering it (environment, files, interfaces) is agent.settings' part; here it is data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from wire import decimal, names

DEFAULTS: Final[Mapping[str, Any]] = {
    "configPath": "./etc/istio/proxy",
    "binaryPath": "/usr/local/bin/envoy",
    "serviceCluster": "istio-proxy",
    "drainDuration": "45s",
    "terminationDrainDuration": "5s",
    "discoveryAddress": "istiod.istio-system.svc:15012",
    "proxyAdminPort": names.ADMIN_PORT,
    "statusPort": names.STATUS_PORT,
    "controlPlaneAuthPolicy": "MUTUAL_TLS",
}
"""Istio's defaults of ProxyConfig (features row R8) as far as they matter in the pod."""


class InputError(Exception):
    """Something that the proxy was started with is not what it must be; the message names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """One proxy's bootstrap, as data.

    Attributes:
        kind: ``sidecar`` or ``router``.
        config: ProxyConfig in camelCase, defaults applied (``proxyconfig.merge``).
        environment: The process environment.
        labels: Pod labels of the downward API.
        annotations: Pod annotations of the downward API.
        addresses: The pod's IPs, its primary one first.
        domain: DNS domain of the node id, such as ``default.svc.cluster.local``.
        version: What ISTIO_VERSION says unless ISTIO_META_ISTIO_VERSION does.
        sds_socket: Path of the unix socket of the agent's SDS.
        outlier_log_path: Where Envoy logs ejections; empty means nowhere.
        istiod_san: DNS name that istiod's certificate must carry.
        node_id: Overrides the id otherwise made of the rest.
        credential_socket: Path of the unix socket of somebody else's SDS for gateways' keys; empty where there is none.
    """

    kind: str
    config: Mapping[str, Any]
    environment: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    addresses: tuple[str, ...] = ("127.0.0.1",)
    domain: str = ""
    version: str = ""
    sds_socket: str = names.SDS_SOCKET
    outlier_log_path: str = ""
    istiod_san: str = "istiod.istio-system.svc"
    node_id: str = ""
    credential_socket: str = ""

    def port(self, variable: str, default: int) -> int:
        """A port that an environment variable may move.

        Raises:
            InputError: the variable is no number.
        """
        text = self.environment.get(variable) or str(default)
        found = decimal.number(text)
        if found is None:
            raise InputError(f"{variable} is no port: {text!r}")
        return found
