"""Variables of Istio's agent that mean nothing to ours: who sets one has to be told (features rows A14, C7).

They come by ``proxyMetadata`` of ProxyConfig or in a container ``istio-proxy`` of the user's own. A value that asks for
what happens anyway is no news. Source: Istio's pilot-agent, config and options.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_OFF: Final = frozenset({"false", "0", "f"})
_ON: Final = frozenset({"true", "1", "t"})
_NOTHING: Final = frozenset[str]()
_WITHOUT_EFFECT: Final[Mapping[str, frozenset[str]]] = {
    "CA_PROVIDER": frozenset({"citadel"}),
    "CREDENTIAL_FETCHER_TYPE": frozenset({"jwt"}),
    "CREDENTIAL_IDENTITY_PROVIDER": frozenset({"googlecomputeengine"}),
    "DISABLE_ENVOY": _OFF,
    "FILE_DEBOUNCE_DURATION": _NOTHING,
    "GCP_METADATA": _NOTHING,
    "GRPC_XDS_BOOTSTRAP": _NOTHING,
    "IPTABLES_TRACE_LOGGING": _OFF,
    "ISTIO_AGENT_ENABLE_WASM_REMOTE_LOAD_CONVERSION": _OFF,
    "ISTIO_BOOTSTRAP": _NOTHING,
    "ISTIO_BOOTSTRAP_OVERRIDE": _NOTHING,
    "ISTIO_META_CERT_SIGNER": _NOTHING,
    "JWT_POLICY": frozenset({"third-party-jwt"}),
    "PEER_METADATA_DISCOVERY": _OFF,
    "PILOT_CERT_PROVIDER": frozenset({"istiod"}),
    "PKCS8_KEY": _ON,
    "PROXY_XDS_DEBUG_VIA_AGENT": _OFF,
    "PROXY_XDS_VIA_AGENT": _ON,
    "WASM_HTTP_REQUEST_MAX_RETRIES": _NOTHING,
    "WASM_HTTP_REQUEST_TIMEOUT": _NOTHING,
    "WASM_INSECURE_REGISTRIES": _NOTHING,
    "WASM_MODULE_EXPIRY": _NOTHING,
    "WASM_PURGE_INTERVAL": _NOTHING,
    "XDS_AUTH_PROVIDER": _NOTHING,
    "XDS_ROOT_CA": _NOTHING,
}
"""The variables, and which values (in small letters) are what our agent does anyway."""


def is_name(name: str) -> bool:
    """Whether it is the name of an environment variable."""
    return _NAME.fullmatch(name) is not None


def in_vain(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The variables that are set and change nothing, sorted."""
    return tuple(
        name
        for name in sorted(environment.keys() & _WITHOUT_EFFECT.keys())
        if environment[name] and environment[name].lower() not in _WITHOUT_EFFECT[name]
    )
