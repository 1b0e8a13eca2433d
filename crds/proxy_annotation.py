"""The pod annotation ``proxy.istio.io/config``: a ProxyConfig as YAML, read at injection and by the control plane (R8).

What starts a proxy is the agent's and the injector's; here stand mistakes in it, and what changes nothing yet.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from crds import parse
from crds.diagnostic import Code, Diagnostic, error, warning
from crds.key import ConfigKey
from crds.proxy_config import ProxyConfig

NAME = "proxy.istio.io/config"
FIELD = f"metadata.annotations[{NAME}]"
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
IN_VAIN = "is read and has no effect yet"
_WITHOUT_EFFECT = (
    "proxy_headers",
    "connection_settings",
    "tracing",
    "zipkin_address",
    "envoy_metrics_service_address",
    "custom_config_file",
    "proxy_bootstrap_template_path",
    "ca_certificates_pem",
    "file_flush_min_size_kb",
    "image",
)


def without_effect(config: ProxyConfig) -> Iterator[str]:
    """Paths of the fields that are said and change nothing yet, wherever the configuration stands."""
    for name in _WITHOUT_EFFECT:
        if name in config.model_fields_set:
            yield ProxyConfig.model_fields[name].alias or name
    topology = config.gateway_topology
    if topology is not None and topology.forward_client_cert_details != "UNDEFINED":
        yield "gatewayTopology.forwardClientCertDetails"
    if topology is not None and topology.proxy_protocol is not None:
        yield "gatewayTopology.proxyProtocol"


def check(said: str, key: ConfigKey) -> Iterator[Diagnostic]:
    """What is wrong with the annotation's text, or of no effect, on the object that has it."""
    if not said:  # most objects
        return
    config, findings = parse.part_of_text(ProxyConfig, said, key, FIELD)
    yield from findings
    if config is not None:
        yield from _of_environment(config, key)
        yield from (warning(Code.NOT_SUPPORTED, key, f"{FIELD}.{name}", IN_VAIN) for name in _in_vain(config))


def _of_environment(config: ProxyConfig, key: ConfigKey) -> Iterator[Diagnostic]:
    for name in config.proxy_metadata:
        if not _VARIABLE.fullmatch(name):
            yield error(Code.BAD_VALUE, key, f"{FIELD}.proxyMetadata", f"{name!r} is no name of a variable")


def _in_vain(config: ProxyConfig) -> Iterator[str]:
    """What has no effect in an annotation: who is trusted in front of a gateway is the mesh's to say so far."""
    yield from without_effect(config)
    if config.gateway_topology is not None and config.gateway_topology.num_trusted_proxies:
        yield "gatewayTopology.numTrustedProxies"
