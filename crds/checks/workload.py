"""WorkloadEntry and WorkloadGroup (features rows H10, H11)."""

from __future__ import annotations

import re
from typing import Final

from pydantic.alias_generators import to_camel

from crds import path
from crds.checks import labels, values
from crds.checks.findings import Findings
from crds.diagnostic import Code
from crds.pod_spec import HTTPGetAction, Probe
from crds.service_entry import WorkloadEntry, WorkloadEntrySpec, WorkloadGroup

_UNIX: Final = "unix://"
_SCHEMES: Final = frozenset({"", "HTTP", "HTTPS"})
_HEADER: Final = re.compile(r"[-A-Za-z0-9_]+\Z")
_COUNTS: Final = (
    "initial_delay_seconds",
    "timeout_seconds",
    "period_seconds",
    "success_threshold",
    "failure_threshold",
)
_METHODS: Final = ("http_get", "tcp_socket", "exec", "grpc")


def entry(item: WorkloadEntry, found: Findings) -> None:
    """Everything that one WorkloadEntry can be wrong about."""
    spec = item.spec
    if not spec.address and not spec.network:  # in another network its gateway will do
        found.missing("spec.address")
    _address(spec, found)
    _parts(spec, "spec", found)


def group(item: WorkloadGroup, found: Findings) -> None:
    """Everything that one WorkloadGroup can be wrong about; what it is for is told, too."""
    spec = item.spec
    labels.check(found, "spec.metadata.labels", spec.metadata.labels)
    if spec.template is None:
        found.missing("spec.template")
    else:
        _parts(spec.template, "spec.template", found)
    if spec.probe is not None:
        _probe(spec.probe, found)
    message = "WorkloadGroup has no effect yet: workloads do not register themselves; write a WorkloadEntry for each"
    found.warning("", message, Code.NOT_SUPPORTED)


def _address(spec: WorkloadEntrySpec, found: Findings) -> None:
    address = spec.address
    if address.startswith(_UNIX):
        found.check("spec.address", values.socket(address.removeprefix(_UNIX)))
        if spec.ports:
            found.error("spec.ports", "a unix socket has no ports")
    elif address and not values.is_address(address):
        found.check("spec.address", values.domain(address))


def _parts(spec: WorkloadEntrySpec, field: str, found: Findings) -> None:
    for name, number in spec.ports.items():
        place = path.child(f"{field}.ports", name)
        found.check(place, values.port_name(name))
        found.check(place, values.port(number))
    labels.check(found, f"{field}.labels", spec.labels)


def _probe(probe: Probe, found: Findings) -> None:
    for name in [name for name in _COUNTS if getattr(probe, name) < 0]:
        found.error(f"spec.probe.{to_camel(name)}", "must not be negative")
    methods = [name for name in _METHODS if getattr(probe, name) is not None]
    if len(methods) != 1:
        found.error("spec.probe", "exactly one of httpGet, tcpSocket, exec and grpc must be set")
    if probe.http_get is not None:
        _request(probe.http_get, found)
    elif probe.tcp_socket is not None:
        _port(probe.tcp_socket.port, "spec.probe.tcpSocket.port", found)
    elif probe.exec is not None and not all(probe.exec.command or [""]):
        found.missing("spec.probe.exec.command")


def _request(get: HTTPGetAction, found: Findings) -> None:
    _port(get.port, "spec.probe.httpGet.port", found)
    if get.scheme not in _SCHEMES:
        found.error("spec.probe.httpGet.scheme", "must be HTTP or HTTPS")
    for index, header in enumerate(get.http_headers):
        if not _HEADER.match(header.name):
            found.error(f"spec.probe.httpGet.httpHeaders[{index}].name", f"{header.name!r} is no name of a header")


def _port(said: int | str, field: str, found: Findings) -> None:
    found.check(field, values.port(said) if isinstance(said, int) else f"{said!r} is no port number")
