"""The pod annotation ``proxy.istio.io/config``: a ProxyConfig as YAML, read at injection and by the control plane (R8).

What starts a proxy is the agent's and the injector's; here stand mistakes in it, and what changes nothing yet.
"""

from __future__ import annotations

from collections.abc import Iterator

from crds import parse, span_tags, unhonoured
from crds.diagnostic import Code, Diagnostic, error, warning
from crds.key import ConfigKey
from crds.meta import Model
from crds.proxy_config import ProxyConfig
from wire import variables

NAME = "proxy.istio.io/config"
FIELD = f"metadata.annotations[{NAME}]"
IN_VAIN = "is read and has no effect yet"
_CONNECTIONS = "global_downstream_connection_limit"
"""What of ``connectionSettings`` the agent puts there."""

_OF_MESH = ("attempt_count", "preserve_http1_header_case", "x_forwarded_host")
"""What of ``proxyHeaders`` is in resources that proxies share."""


def without_effect(config: ProxyConfig) -> Iterator[str]:
    """Paths of the fields that are said and change nothing yet, wherever the configuration stands."""
    yield from (path for path, _ in unhonoured.said("ProxyConfig", config))
    if config.control_plane_auth_policy != "MUTUAL_TLS" and "control_plane_auth_policy" in config.model_fields_set:
        yield "controlPlaneAuthPolicy"
    if (connections := config.connection_settings) is not None:
        said = sorted(connections.model_fields_set - {_CONNECTIONS})
        yield from (f"connectionSettings.{_spelling(connections, name)}" for name in said)
    yield from (f"proxyMetadata.{name}" for name in variables.in_vain(config.proxy_metadata))


def _spelling(part: Model, name: str) -> str:
    return type(part).model_fields[name].alias or name


def check(said: str, key: ConfigKey) -> Iterator[Diagnostic]:
    """What is wrong with the annotation's text, or of no effect, on the object that has it."""
    if not said:  # most objects
        return
    config, findings = parse.part_of_text(ProxyConfig, said, key, FIELD)
    yield from findings
    if config is not None:
        yield from _of_environment(config, key)
        for name, problem in span_tags.problems(config.tracing.custom_tags) if config.tracing else ():
            yield error(Code.BAD_VALUE, key, f"{FIELD}.tracing.customTags[{name}]", problem)
        yield from (warning(Code.NOT_SUPPORTED, key, f"{FIELD}.{name}", IN_VAIN) for name in _in_vain(config))


def _of_environment(config: ProxyConfig, key: ConfigKey) -> Iterator[Diagnostic]:
    for name in config.proxy_metadata:
        if not variables.is_name(name):
            yield error(Code.BAD_VALUE, key, f"{FIELD}.proxyMetadata", f"{name!r} is no name of a variable")


def _in_vain(config: ProxyConfig) -> Iterator[str]:
    """What has no effect in an annotation: some of it is the mesh's to say so far."""
    yield from without_effect(config)
    if (headers := config.proxy_headers) is not None:
        said = sorted(headers.model_fields_set & set(_OF_MESH))
        yield from (f"proxyHeaders.{_spelling(headers, name)}" for name in said)
