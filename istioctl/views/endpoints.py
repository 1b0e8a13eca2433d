"""``proxy-config endpoint`` (what Envoy's clusters hold) and ``eds`` (what istiod sent it)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from istioctl.dump import Json

HEADER: Final = ("ENDPOINT", "STATUS", "OUTLIER CHECK", "CLUSTER")
EDS_HEADER: Final = ("ENDPOINT", "STATUS", "LOCALITY", "CLUSTER")


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which endpoints; empty means any."""

    address: str = ""
    port: int = 0
    cluster: str = ""
    status: str = ""


def selected(statuses: Sequence[Json], wanted: Filter) -> list[dict[str, Any]]:
    """Cluster statuses of /clusters?format=json with the endpoints that the filter lets through."""
    found = []
    for each in statuses:
        if wanted.cluster and each.get("name") != wanted.cluster:
            continue
        hosts = [host for host in each.get("host_statuses", ()) if _fits(host, _health(host), wanted)]
        if hosts:
            found.append({**each, "host_statuses": hosts})
    return found


def rows(statuses: Sequence[Json]) -> list[tuple[str, ...]]:
    """A row for each endpoint, by address, port and cluster."""
    found = []
    for each in statuses:
        for host in each.get("host_statuses", ()):
            check = "FAILED" if host.get("health_status", {}).get("failed_outlier_check") else "OK"
            found.append((_place(host), (_shown(host), _health(host), check, str(each.get("name", "")))))
    return [row for _, row in sorted(found, key=lambda pair: (pair[0], pair[1]))]


def selected_eds(assignments: Sequence[Json], wanted: Filter) -> list[Json]:
    """Load assignments, by cluster, with the endpoints that the filter lets through."""
    found: list[Json] = []
    for each in sorted(assignments, key=lambda each: str(each.get("cluster_name", ""))):
        if wanted.cluster and each.get("cluster_name") != wanted.cluster:
            continue
        groups = []
        for group in each.get("endpoints", ()):
            kept = [lb for lb in group.get("lb_endpoints", ()) if _fits(lb.get("endpoint", {}), _eds(lb), wanted)]
            if kept:
                groups.append({**group, "lb_endpoints": kept})
        if groups:
            found.append({**each, "endpoints": groups})
    return found


def eds_rows(assignments: Sequence[Json]) -> list[tuple[str, ...]]:
    """A row for each endpoint that istiod sent."""
    return [row for each in assignments for row in _eds_rows(each)]


def _eds_rows(assignment: Json) -> Iterator[tuple[str, ...]]:
    for group in assignment.get("endpoints", ()):
        where = group.get("locality", {})
        locality = "/".join(filter(None, (where.get(part) for part in ("region", "zone", "sub_zone"))))
        for lb in group.get("lb_endpoints", ()):
            yield _shown(lb.get("endpoint", {})), _eds(lb), locality, str(assignment.get("cluster_name", ""))


def _fits(host: Json, health: str, wanted: Filter) -> bool:
    address, port = _place(host)
    return (
        (not wanted.address or address.lower() == wanted.address.lower())
        and (not wanted.port or port == wanted.port)
        and (not wanted.status or health.lower() == wanted.status.lower())
    )


def _place(host: Json) -> tuple[str, int]:
    address = host.get("address", {})
    if "pipe" in address:
        return f"unix://{address['pipe'].get('path', '')}", 0
    if "envoy_internal_address" in address:
        return f"envoy://{address['envoy_internal_address'].get('server_listener_name', '')}", 0
    socket = address.get("socket_address", {})
    return str(socket.get("address", "")), int(socket.get("port_value", 0))


def _shown(host: Json) -> str:
    address, port = _place(host)
    if not port:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _health(host: Json) -> str:
    """Envoy's own view: outlier detection and active checks are told apart in the column beside it."""
    return str(host.get("health_status", {}).get("eds_health_status") or "UNKNOWN")


def _eds(lb: Json) -> str:
    status = str(lb.get("health_status") or "HEALTHY")
    return "HEALTHY" if status == "UNKNOWN" else status
