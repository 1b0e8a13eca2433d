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
from wire import names

SIDECAR: Final = "sidecar.istio.io/"
TRAFFIC: Final = "traffic.sidecar.istio.io/"
READINESS: Final = "readiness.status.sidecar.istio.io/"
STATUS_PORT: Final = "status.sidecar.istio.io/port"
OVERRIDES: Final = "proxy.istio.io/overrides"
TEMPLATES: Final = names.ANNOTATION_TEMPLATES
REROUTE: Final = "istio.io/reroute-virtual-interfaces"
USER_VOLUME: Final = f"{SIDECAR}userVolume"
USER_MOUNT: Final = f"{SIDECAR}userVolumeMount"
NATIVE: Final = f"{SIDECAR}nativeSidecar"
BIND_LOW_PORTS: Final = f"{SIDECAR}capNetBindService"
REWRITE_PROBES: Final = f"{SIDECAR}rewriteAppHTTPProbers"
MERGE_METRICS: Final = "prometheus.istio.io/merge-metrics"
MODES: Final = ("REDIRECT", "TPROXY", "NONE")
TRUE: Final = frozenset({"1", "t", "T", "true", "TRUE", "True"})
FALSE: Final = frozenset({"0", "f", "F", "false", "FALSE", "False"})
"""What Go's strconv.ParseBool takes for one and the other."""
_MAX_PORT: Final = 65535
_QUANTITY: Final = re.compile(r"[0-9]{1,18}(\.[0-9]{1,9})?([mkMGTPE]|[KMGTPE]i)?")
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_LEVELS: Final = ("trace", "debug", "info", "warning", "warn", "error", "critical", "off")
_IMAGE: Final = r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,500}"


def port(value: str) -> bool:
    """A port number, or 0 for none."""
    return _count(value) and int(value) <= _MAX_PORT


def _count(value: str) -> bool:
    """A number of seconds or tries; Python itself refuses to read thousands of digits."""
    return re.fullmatch(r"[0-9]{1,9}", value) is not None


def ports(value: str) -> bool:
    """A comma list of ports, or nothing."""
    return all(port(each.strip()) for each in value.split(",")) if value else True


def ranges(value: str) -> bool:
    """A comma list of address ranges, or nothing. No blanks: istio-iptables takes none."""
    return all(_range(each) for each in value.split(",")) if value else True


def _range(value: str) -> bool:
    try:
        ipaddress.ip_interface(value)
    except ValueError:
        return False
    return value.partition("/")[2].isdecimal()


def _or_all(check: Callable[[str], bool]) -> Callable[[str], bool]:
    return lambda value: value == "*" or check(value)


def _names(value: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9_.,@-]*", value) is not None


def _like(pattern: str) -> Callable[[str], bool]:
    found = re.compile(pattern)
    return lambda value: found.fullmatch(value) is not None


def _one_of(*values: str) -> Callable[[str], bool]:
    return lambda value: value in values


def _objects(value: str) -> Mapping[str, Mapping[str, object]] | None:
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    fit = all(_NAME.fullmatch(name) and isinstance(each, dict) for name, each in found.items())
    return found if fit else None


def _mounts(value: str) -> bool:
    found = _objects(value)
    return found is not None and all(isinstance(each.get("mountPath"), str) for each in found.values())


def _buckets(value: str) -> bool:
    """Limits of histogram buckets by the beginning of a statistic's name (read by the agent)."""
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return False
    lists = list(found.values()) if isinstance(found, dict) else [None]
    return all(isinstance(one, list) and all(type(n) in (int, float) for n in one) for one in lists)


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
    NATIVE: (_one_of(*TRUE, *FALSE), "true or false"),
    REWRITE_PROBES: (_one_of(*TRUE, *FALSE), "true or false"),
    BIND_LOW_PORTS: (_one_of("true", "false"), "true or false"),
    f"{SIDECAR}proxyCPU": (lambda value: bool(_QUANTITY.fullmatch(value)), "a quantity such as 100m"),
    f"{SIDECAR}proxyCPULimit": (lambda value: bool(_QUANTITY.fullmatch(value)), "a quantity such as 2"),
    f"{SIDECAR}proxyMemory": (lambda value: bool(_QUANTITY.fullmatch(value)), "a quantity such as 128Mi"),
    f"{SIDECAR}proxyMemoryLimit": (lambda value: bool(_QUANTITY.fullmatch(value)), "a quantity such as 1Gi"),
    f"{SIDECAR}proxyImage": (_like(_IMAGE), "the name of an image"),
    f"{SIDECAR}proxyImageType": (_like(r"[a-z0-9]([a-z0-9._-]{0,38}[a-z0-9])?"), "default, debug or distroless"),
    f"{SIDECAR}logLevel": (_one_of(*_LEVELS), "one of " + ", ".join(_LEVELS)),
    f"{SIDECAR}componentLogLevel": (_like(r"[A-Za-z0-9_.,:-]*"), "a comma list of COMPONENT:LEVEL"),
    f"{SIDECAR}statsHistogramBuckets": (_buckets, "a JSON object of lists of numbers"),
    f"{SIDECAR}statsFlushInterval": (_like(r"[0-9]{1,9}(\.[0-9]{1,9})?s"), "a number of seconds such as 5s"),
    f"{SIDECAR}agentLogLevel": (_like(r"[A-Za-z0-9_.,:-]*"), "a comma list of SCOPE:LEVEL"),
    STATUS_PORT: (port, "a port"),
    f"{READINESS}initialDelaySeconds": (_count, "a number of seconds"),
    f"{READINESS}periodSeconds": (_count, "a number of seconds"),
    f"{READINESS}failureThreshold": (_count, "a number"),
    USER_VOLUME: (lambda value: _objects(value) is not None, "a JSON object of volumes by name"),
    USER_MOUNT: (_mounts, "a JSON object of mounts by volume name"),
    MERGE_METRICS: (_one_of(*TRUE, *FALSE), "true or false"),
}
UNSUPPORTED: Final = (
    f"{SIDECAR}bootstrapOverride",
    f"{SIDECAR}statsHistogramBins",
    f"{SIDECAR}statsEvictionInterval",
    f"{SIDECAR}statsCompression",
    f"{READINESS}applicationPorts",
    f"{SIDECAR}controlPlaneAuthPolicy",
    f"{SIDECAR}discoveryAddress",
    f"{SIDECAR}enableCoreDump",
    "ambient.istio.io/bypass-inbound-capture",
    "ambient.istio.io/dns-capture",
    "ambient.istio.io/redirection",
)
"""Read by Istio's injector or agent, without effect here."""


_PREFIXES: Final = (
    *(SIDECAR, TRAFFIC, READINESS, STATUS_PORT.partition("/")[0] + "/", TEMPLATES.partition("/")[0] + "/"),
    *("proxy.istio.io/", "prometheus.istio.io/", "networking.istio.io/", "ambient.istio.io/"),
)
_OTHERS: Final = frozenset(
    {
        *(f"{SIDECAR}{name}" for name in ("inject", "status", "extraStatTags")),
        *(f"{SIDECAR}statsInclusion{name}" for name in ("Prefixes", "Suffixes", "Regexps")),
        *(TEMPLATES, OVERRIDES, proxy_annotation.NAME, "prometheus.istio.io/scrape-targets"),
    }
)


def check(annotations: Mapping[str, str], key: ConfigKey) -> Iterator[Diagnostic]:
    """What is wrong with a pod's annotations. An error means that the pod must not be created like this."""
    for name, value in annotations.items():
        field = f"metadata.annotations[{name}]"
        if name in CHECKS and not CHECKS[name][0](value):
            yield error(Code.BAD_VALUE, key, field, f"{value!r} is not {CHECKS[name][1]}")
        elif name in UNSUPPORTED:
            yield warning(Code.NOT_SUPPORTED, key, field, "has no effect yet")
        elif name.startswith(_PREFIXES) and name not in CHECKS and name not in _OTHERS:
            yield warning(Code.UNKNOWN_FIELD, key, field, "unknown annotation; it has no effect")
    image = annotations.get(f"{SIDECAR}proxyImage", "/")
    if "/" not in image:
        message = f"{image!r} has no effect: it has to be a full name, such as registry.example.org/proxyv2:1"
        yield warning(Code.INEFFECTIVE, key, f"metadata.annotations[{SIDECAR}proxyImage]", message)
    yield from proxy_annotation.check(annotations.get(proxy_annotation.NAME, ""), key)


def truth(annotations: Mapping[str, str], name: str, *, default: bool) -> bool:
    """What an annotation says that is true or false; the default where it is not there."""
    value = annotations.get(name, "")
    return value in TRUE or (default and value not in FALSE)


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
