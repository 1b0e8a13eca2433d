"""WorkloadEntry and WorkloadGroup (features rows H10, H11)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from crds import path
from crds.checks import values
from crds.checks.findings import Findings
from crds.diagnostic import Code
from crds.pod_spec import HTTPGetAction, Probe
from crds.service_entry import WorkloadEntry, WorkloadEntrySpec, WorkloadGroup

_UNIX: Final = "unix://"
_SCHEMES: Final = frozenset({"", "HTTP", "HTTPS"})
_HEADER: Final = re.compile(r"[-A-Za-z0-9_]+\Z")
_PORT_NAME: Final = re.compile(r"[a-zA-Z0-9](?:[-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?\Z")
_LABEL_VALUE: Final = re.compile(r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?\Z")
_LABEL_KEY: Final = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?\Z")


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
    labels(spec.metadata.labels, "spec.metadata.labels", found)
    if spec.template is None:
        found.missing("spec.template")
    else:
        _parts(spec.template, "spec.template", found)
    if spec.probe is not None:
        _probe(spec.probe, found)
    message = "WorkloadGroup has no effect yet: workloads do not register themselves; write a WorkloadEntry for each"
    found.warning("", message, Code.NOT_SUPPORTED)


def labels(said: Mapping[str, str], field: str, found: Findings) -> None:
    """Labels as Kubernetes has them."""
    for key, value in said.items():
        prefix, slash, name = key.rpartition("/")
        if not _LABEL_KEY.match(name) or (slash and values.domain(prefix) is not None):
            found.error(path.child(field, key), f"{key!r} is no name of a label")
        if not _LABEL_VALUE.match(value):
            found.error(path.child(field, key), f"{value!r} is no value of a label")


def _address(spec: WorkloadEntrySpec, found: Findings) -> None:
    address = spec.address
    if address.startswith(_UNIX):
        socket = address.removeprefix(_UNIX)
        if not socket.startswith(("/", "@")) or socket.endswith("/"):
            found.error("spec.address", f"{socket!r} is no absolute path of a file and no abstract socket")
        if spec.ports:
            found.error("spec.ports", "a unix socket has no ports")
    elif address and not values.is_address(address):
        found.check("spec.address", values.domain(address))


def _parts(spec: WorkloadEntrySpec, field: str, found: Findings) -> None:
    for name, number in spec.ports.items():
        place = path.child(f"{field}.ports", name)
        if not _PORT_NAME.match(name):
            found.error(place, f"{name!r} is no name of a port")
        found.check(place, values.port(number))
    labels(spec.labels, f"{field}.labels", found)


def _probe(probe: Probe, found: Findings) -> None:
    if probe.http_get is not None:
        _request(probe.http_get, found)
    elif probe.tcp_socket is not None:
        _port(probe.tcp_socket.port, "spec.probe.tcpSocket.port", found)
    elif probe.exec is not None:
        if not probe.exec.command:
            found.missing("spec.probe.exec.command")
    elif probe.grpc is None:
        found.error("spec.probe", "has none of httpGet, tcpSocket, exec and grpc")


def _request(get: HTTPGetAction, found: Findings) -> None:
    _port(get.port, "spec.probe.httpGet.port", found)
    if get.scheme not in _SCHEMES:
        found.error("spec.probe.httpGet.scheme", "must be HTTP or HTTPS")
    for index, header in enumerate(get.http_headers):
        if not _HEADER.match(header.name):
            found.error(f"spec.probe.httpGet.httpHeaders[{index}].name", f"{header.name!r} is no name of a header")


def _port(said: int | str, field: str, found: Findings) -> None:
    found.check(field, values.port(said) if isinstance(said, int) else f"{said!r} is no port number")
