"""Domains of virtual hosts: which names a service answers to, each given out once per table (rows S74, D14).

A domain that stands twice makes Envoy refuse the whole table, so the choice is made here, in a fixed order.
"""

from __future__ import annotations

from istiod.mesh.service import Resolution, Service

PODS = "*."
"""What stands before a headless service's name in the pattern of its pods' names."""

Names = tuple[str, ...]


def of_host(host: str, namespace: str, dns_domain: str) -> Names:
    """The names of a host for clients in ``namespace``: full, with the root dot, and shorter ones of the cluster.

    A name of the client's own namespace may be as short as the service's (Istio: generateAltVirtualHosts).
    """
    suffix = f".svc.{dns_domain}"
    if host.startswith("*") or not host.endswith(suffix):
        return (host, f"{host}.")
    name, home = short(host, dns_domain)
    own = (name,) if home and home == namespace else ()
    within = host.removesuffix(suffix)
    return (host, f"{host}.", *own, within, f"{within}.svc")


def short(host: str, dns_domain: str) -> tuple[str, str]:
    """A host's shortest name and the namespace whose clients may use it; ("", "") where there is none.

    Only two labels before ``svc`` are a name and a namespace.
    """
    suffix = f".svc.{dns_domain}"
    if host.startswith("*") or not host.endswith(suffix):
        return "", ""
    name, _, home = host.removesuffix(suffix).rpartition(".")
    return (name, home) if name and "." not in name else ("", "")


def of_service(service: Service, namespace: str, dns_domain: str) -> Names:
    """The names of a service, its virtual IPs, and for a headless one its pods' (``web-0.web.ns``)."""
    names = of_host(service.host, namespace, dns_domain)
    headless = service.resolution is Resolution.PASSTHROUGH and service.kubernetes
    pods = (f"{PODS}{name}" for name in names if headless)
    return (*names, *pods, *(_authority(address) for address in service.addresses if "/" not in address))


def _authority(address: str) -> str:
    return f"[{address}]" if ":" in address else address


class Ledger:
    """The domains of one table as they are given out: first come, first served."""

    def __init__(self, kept: frozenset[str]) -> None:
        """``kept`` are full names of services: they are never given to others as a short name."""
        self._kept = kept
        self._given: set[str] = set()

    def give(self, wanted: Names, full: str) -> Names:
        """Those of ``wanted`` that are free, in order; ``full`` is the full name of the host that asks."""
        free = []
        for domain in dict.fromkeys(wanted):
            lower = domain.lower()
            if lower in self._given or (lower in self._kept and lower != full):
                continue
            self._given.add(lower)
            free.append(domain)
        return tuple(free)
