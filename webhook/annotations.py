"""Annotations that steer injection: their names, and which values they may have (features A16 to A23, B3 to B7). Pure.

A value that cannot be read refuses the pod, as in Istio: a sidecar that ignores what its user asked for is worse than
none.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from crds import proxy_annotation, text
from crds.diagnostic import Code, Diagnostic, error, warning
from crds.key import ConfigKey

SIDECAR: Final = "sidecar.istio.io/"
TRAFFIC: Final = "traffic.sidecar.istio.io/"
READINESS: Final = "readiness.status.sidecar.istio.io/"
STATUS_PORT: Final = "status.sidecar.istio.io/port"
OVERRIDES: Final = "proxy.istio.io/overrides"
TEMPLATES: Final = "inject.istio.io/templates"
REROUTE: Final = "istio.io/reroute-virtual-interfaces"
USER_VOLUME: Final = f"{SIDECAR}userVolume"
USER_MOUNT: Final = f"{SIDECAR}userVolumeMount"
MERGE_METRICS: Final = "prometheus.istio.io/merge-metrics"
MODES: Final = ("REDIRECT", "TPROXY", "NONE")
KNOWN_TEMPLATES: Final = ("sidecar", "gateway")
_MAX_PORT: Final = 65535
_QUANTITY: Final = re.compile(r"\d+(\.\d+)?([mkMGTPE]|[KMGTPE]i)?")


def port(value: str) -> bool:
    """A port number."""
    return _count(value) and 0 < int(value) <= _MAX_PORT


def _count(value: str) -> bool:
    """A number of seconds or tries; Python itself refuses to read thousands of digits."""
    return re.fullmatch(r"[0-9]{1,9}", value) is not None


def ports(value: str) -> bool:
    """A comma list of ports, or nothing."""
    return all(port(each.strip()) for each in value.split(",")) if value else True


def ranges(value: str) -> bool:
    """A comma list of address ranges, or nothing."""
    return all(_range(each.strip()) for each in value.split(",")) if value else True


def _range(value: str) -> bool:
    try:
        ipaddress.ip_interface(value)
    except ValueError:
        return False
    return "/" in value


def _or_all(check: Callable[[str], bool]) -> Callable[[str], bool]:
    return lambda value: value == "*" or check(value)


def _names(value: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9_.,@-]*", value) is not None


def _one_of(*values: str) -> Callable[[str], bool]:
    return lambda value: value in values


def _objects(value: str) -> Mapping[str, Mapping[str, object]] | None:
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and all(isinstance(each, dict) for each in found.values()) else None


CHECKS: Final[Mapping[str, tuple[Callable[[str], bool], str]]] = {
    f"{TRAFFIC}includeOutboundIPRanges": (_or_all(ranges), "a comma list of IP ranges, or *"),
    f"{TRAFFIC}excludeOutboundIPRanges": (ranges, "a comma list of IP ranges"),
    f"{TRAFFIC}includeInboundPorts": (_or_all(ports), "a comma list of ports, or *"),
    f"{TRAFFIC}excludeInboundPorts": (ports, "a comma list of ports"),
    f"{TRAFFIC}includeOutboundPorts": (ports, "a comma list of ports"),
    f"{TRAFFIC}excludeOutboundPorts": (ports, "a comma list of ports"),
    f"{TRAFFIC}excludeInterfaces": (_names, "a comma list of interfaces"),
    f"{TRAFFIC}kubevirtInterfaces": (_names, "a comma list of interfaces"),
    REROUTE: (_names, "a comma list of interfaces"),
    f"{SIDECAR}interceptionMode": (_one_of(*MODES), "one of " + ", ".join(MODES)),
    f"{SIDECAR}nativeSidecar": (_one_of("true", "false"), "true or false"),
    f"{SIDECAR}rewriteAppHTTPProbers": (_one_of("true", "false"), "true or false"),
    f"{SIDECAR}proxyCPU": (lambda value: bool(_QUANTITY.fullmatch(value)), "a quantity such as 100m"),
    f"{SIDECAR}proxyCPULimit": (lambda value: bool(_QUANTITY.fullmatch(value)), "a quantity such as 2"),
    f"{SIDECAR}proxyMemory": (lambda value: bool(_QUANTITY.fullmatch(value)), "a quantity such as 128Mi"),
    f"{SIDECAR}proxyMemoryLimit": (lambda value: bool(_QUANTITY.fullmatch(value)), "a quantity such as 1Gi"),
    STATUS_PORT: (port, "a port"),
    f"{READINESS}initialDelaySeconds": (_count, "a number of seconds"),
    f"{READINESS}periodSeconds": (_count, "a number of seconds"),
    f"{READINESS}failureThreshold": (_count, "a number"),
    USER_VOLUME: (lambda value: _objects(value) is not None, "a JSON object of volumes by name"),
    USER_MOUNT: (lambda value: _objects(value) is not None, "a JSON object of mounts by volume name"),
    MERGE_METRICS: (_one_of("true", "false"), "true or false"),
}
UNSUPPORTED: Final = (
    f"{SIDECAR}bootstrapOverride",
    f"{SIDECAR}statsInclusionPrefixes",
    f"{SIDECAR}statsInclusionSuffixes",
    f"{SIDECAR}statsInclusionRegexps",
    f"{SIDECAR}extraStatTags",
    f"{SIDECAR}statsHistogramBuckets",
    f"{SIDECAR}statsHistogramBins",
    f"{SIDECAR}statsFlushInterval",
    f"{SIDECAR}statsEvictionInterval",
    f"{SIDECAR}statsCompression",
    f"{READINESS}applicationPorts",
)
"""Read by Istio's injector or agent, without effect here."""


def check(annotations: Mapping[str, str], key: ConfigKey) -> Iterator[Diagnostic]:
    """What is wrong with a pod's annotations. An error means that the pod must not be created like this."""
    for name, value in annotations.items():
        field = f"metadata.annotations[{name}]"
        if name in CHECKS and not CHECKS[name][0](value):
            yield error(Code.BAD_VALUE, key, field, f"{value!r} is not {CHECKS[name][1]}")
        elif name in UNSUPPORTED:
            yield warning(Code.NOT_SUPPORTED, key, field, "has no effect yet")
    for template in template_names(annotations):
        if template not in KNOWN_TEMPLATES:
            field = f"metadata.annotations[{TEMPLATES}]"
            yield error(Code.NOT_SUPPORTED, key, field, f"no template {template!r}; there are sidecar and gateway")
    yield from proxy_annotation.check(annotations.get(proxy_annotation.NAME, ""), key)


def template_names(annotations: Mapping[str, str]) -> tuple[str, ...]:
    """The templates that the pod asks for; sidecar where it asks for none."""
    return tuple(each.strip() for each in annotations.get(TEMPLATES, "sidecar").split(","))


def named_objects(annotations: Mapping[str, str], name: str) -> Mapping[str, Mapping[str, object]]:
    """The JSON objects by name that an annotation holds."""
    return _objects(annotations.get(name, "{}")) or {}


def proxy_config(annotations: Mapping[str, str]) -> Mapping[str, object]:
    """The ProxyConfig of the annotation ``proxy.istio.io/config`` in its JSON form.

    Raises:
        UnreadableError: it is no YAML; ``check`` says so without raising.
    """
    value = text.load(annotations.get(proxy_annotation.NAME, ""))
    return value if isinstance(value, dict) else {}
