"""Istio's feature variables that have a meaning here (``pilot.env`` of Helm): read once, part of every snapshot.

What Istio does behind other variables is always on, always off, or not there. Variables that say where istiod runs,
such as CLUSTER_ID, are read by istiod.__main__; charts/istiod/files/environment.yaml has all, the chart names others.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import Enum
from typing import Any, Final

from crds import duration
from wire import decimal, names

_WHOLE: Final = 100.0
_UNITS: Final = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "k": 10**3, "M": 10**6, "G": 10**9}
_LONGEST: Final = timedelta(days=1)
_SHORTEST: Final = timedelta(seconds=1)
_AGE: Final = timedelta(days=36_500)


class KeyFetch(Enum):
    """Who fetches the keys of token issuers: istiod, Envoy through its clusters, or Envoy where it has one."""

    ISTIOD = "istiod"
    HYBRID = "hybrid"
    ENVOY = "envoy"


Networks = tuple[str, ...]
"""CIDRs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """The variables' values, or Istio's defaults."""

    http10: bool = False
    """PILOT_HTTP10: every proxy takes HTTP/1.0."""
    trace_sampling: float = 1.0
    """PILOT_TRACE_SAMPLING: percent of requests."""
    dns_jitter: timedelta = timedelta(milliseconds=100)
    """PILOT_DNS_JITTER_DURATION: names are looked up at most this much earlier or later; 0: no jitter."""
    dns_queries: int = 100
    """PILOT_DNS_CARES_UDP_MAX_QUERIES: queries per UDP socket; 0: no limit."""
    native_sidecars: str = "auto"
    """ENABLE_NATIVE_SIDECARS: sidecars are init containers that keep running: true, false, or auto (by the nodes)."""
    openshift: bool = False
    """PLATFORM=openshift: users of pods come from ranges of their namespace."""
    debug_auth: bool = True
    """ENABLE_DEBUG_ENDPOINT_AUTH: in a cluster, debug pages are for loopback and for tokens of the mesh only."""
    leader_election: bool = True
    """ENABLE_LEADER_ELECTION: only one of several replicas writes to the cluster; false where there is one for sure."""
    scope_gateways: bool = False
    """PILOT_SCOPE_GATEWAY_TO_NAMESPACE: a Gateway selects pods of its own namespace only."""
    merge_ingress: bool = False
    """PILOT_ALLOW_SIDECAR_SERVICE_INBOUND_LISTENER_MERGE: a Sidecar's ports come on top of those of Services."""
    gateway_handshake: timedelta = timedelta(seconds=15)
    """PILOT_GATEWAY_TRANSPORT_SOCKET_CONNECT_TIMEOUT: how long a TLS handshake may take; 0: for ever."""
    streams_per_identity: int = 16
    """PILOT_MAX_STREAMS_PER_IDENTITY (not Istio's): streams of one service account besides those of pods that the
    mesh knows, which have a limit each; 0: no limit."""
    memory_limit: int = 0
    """PILOT_MEMORY_LIMIT (not Istio's): bytes of memory near which new streams are refused, such as 512Mi; 0: the
    limit of the container."""
    source_age: timedelta = timedelta(seconds=45)
    """PILOT_SOURCE_AGE_LIMIT (not Istio's): for how long the API server may be silent before proxies are sent to a
    replica that it answers; 0: for ever."""
    rotation_wait: timedelta = timedelta(seconds=30)
    """PILOT_CA_ROTATION_WAIT (not Istio's): for how long no connected proxy may have been seen that lacks a new root,
    before its CA may sign."""
    certificate_life: timedelta = timedelta(hours=24)
    """DEFAULT_WORKLOAD_CERT_TTL: how long a certificate lives for which nothing is asked."""
    certificate_longest: timedelta = timedelta(days=90)
    """MAX_WORKLOAD_CERT_TTL: the longest life that is given, whatever is asked for."""
    root_life: timedelta = timedelta(days=3650)
    """SELF_SIGNED_CA_CERT_TTL: how long a root of istiod's own lives."""
    root_check: timedelta = timedelta(hours=1)
    """CITADEL_SELF_SIGNED_ROOT_CERT_CHECK_INTERVAL: how often it is looked whether such a root is old; 0: never."""
    root_grace: float = 20.0
    """CITADEL_SELF_SIGNED_ROOT_CERT_GRACE_PERIOD_PERCENTILE: percent of its life that are left when it is replaced."""
    log_rules: bool = True
    """PILOT_ACCESS_LOG_RULES (not Istio's): lines of access logs in the default formats end with the rule that routed
    the request; false: they are Istio's to the byte."""
    select_entries: bool = True
    """PILOT_ENABLE_K8S_SELECT_WORKLOAD_ENTRIES: the selectors of Services of Kubernetes find WorkloadEntries too."""
    allocate_addresses: bool = True
    """PILOT_ENABLE_IP_AUTOALLOCATE: addresses of hosts without any stand in the status of ServiceEntries; false: they
    are computed from the hosts' names, as istiod did before."""
    analysis: bool = False
    """PILOT_ENABLE_ANALYSIS: the analyzers of ``istioctl analyze`` run in the cluster, too, and write what they find
    into the status of Istio's objects."""
    envoy_admission: timedelta = timedelta(seconds=4)
    """PILOT_ENVOY_ADMISSION_TIMEOUT (not Istio's): how long Envoy may take to judge an EnvoyFilter before it is stored;
    0: it is not asked."""
    dns_domain: str = names.DEFAULT_DNS_DOMAIN
    """The flag ``--domain``: what names of Services end with after ``svc.``."""
    key_fetch: KeyFetch = KeyFetch.ISTIOD
    """PILOT_JWT_ENABLE_REMOTE_JWKS: who fetches what ``jwksUri`` names."""
    key_refresh: timedelta = timedelta(minutes=20)
    """PILOT_JWT_PUB_KEY_REFRESH_INTERVAL: time between two fetches of a key set."""
    keys_blocked: Networks = ()
    """BLOCKED_CIDRS_IN_JWKS_URIS: where istiod fetches no keys from, beside all that is private, local or reserved."""
    keys_allowed: Networks = ()
    """ALLOWED_CIDRS_IN_JWKS_URIS: where it does all the same. It is not Istio's, which blocks nothing itself."""
    environment: Mapping[str, str] | None = field(default=None, repr=False, compare=False)
    """All variables of this istiod, for what a mesh configuration takes from them (``envName``); None where no istiod
    runs, as for istioctl. Nothing prints them: passwords may be there."""


DEFAULTS: Final = Features()
"""What holds where no variable is set."""


def read(environment: Mapping[str, str]) -> tuple[Features, tuple[str, ...]]:
    """What the variables say, and what is wrong with them: such a one keeps its default, as on Istio."""
    found, problems = replace(DEFAULTS, environment=dict(environment)), []
    for name, (meant, parse) in _VARIABLES.items():
        text = environment.get(name, "")
        if not text:
            continue
        try:
            found = replace(found, **{meant: parse(text)})
        except ValueError as problem:
            problems.append(f"{name}={text}: {problem}; the default holds")
    if found.certificate_life > found.certificate_longest:
        problems.append("DEFAULT_WORKLOAD_CERT_TTL is longer than MAX_WORKLOAD_CERT_TTL, which holds for both")
        found = replace(found, certificate_life=found.certificate_longest)
    return found, tuple(problems)


def _switch(text: str) -> bool:
    known = {"true": True, "1": True, "false": False, "0": False}
    if text.lower() not in known:
        raise ValueError("neither true nor false")
    return known[text.lower()]


def _native(text: str) -> str:
    return text if text == "auto" else str(_switch(text)).lower()


def _openshift(text: str) -> bool:
    return text == "openshift"


def _percent(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= _WHOLE:
        raise ValueError("no number from 0 to 100")
    return value


def _count(text: str) -> int:
    value = decimal.number(text)
    if value is None or value >= 1 << 32:
        raise ValueError(f"no whole number from 0 to {(1 << 32) - 1}")
    return value


def _bytes(text: str) -> int:
    unit = next((unit for unit in _UNITS if text.endswith(unit)), "")
    count = decimal.number(text.removesuffix(unit))
    if count is None:
        raise ValueError("no number of bytes such as 512Mi")
    return count * _UNITS.get(unit, 1)


def _time(text: str) -> timedelta:
    value = duration.parse(text)
    if not timedelta() <= value <= _LONGEST:
        raise ValueError("not from 0s to one day")
    return value


def _life(text: str) -> timedelta:
    value = duration.parse(text)
    if not _SHORTEST <= value <= _AGE:
        raise ValueError("not from 1s to 100 years")
    return value


def _key_fetch(text: str) -> KeyFetch:
    known = {"false": KeyFetch.ISTIOD, "true": KeyFetch.HYBRID} | {each.value: each for each in KeyFetch}
    if text.lower() not in known:
        raise ValueError(f"none of {', '.join(known)}")
    return known[text.lower()]


def _interval(text: str) -> timedelta:
    if (value := _time(text)) < _SHORTEST:
        raise ValueError("shorter than 1s")
    return value


def _networks(text: str) -> Networks:
    return tuple(str(ipaddress.ip_network(one.strip(), strict=False)) for one in text.split(","))


_VARIABLES: Final[Mapping[str, tuple[str, Callable[[str], Any]]]] = {
    "ENABLE_NATIVE_SIDECARS": ("native_sidecars", _native),
    "PLATFORM": ("openshift", _openshift),
    "ALLOWED_CIDRS_IN_JWKS_URIS": ("keys_allowed", _networks),
    "BLOCKED_CIDRS_IN_JWKS_URIS": ("keys_blocked", _networks),
    "PILOT_JWT_ENABLE_REMOTE_JWKS": ("key_fetch", _key_fetch),
    "PILOT_JWT_PUB_KEY_REFRESH_INTERVAL": ("key_refresh", _interval),
    "PILOT_HTTP10": ("http10", _switch),
    "ENABLE_DEBUG_ENDPOINT_AUTH": ("debug_auth", _switch),
    "ENABLE_LEADER_ELECTION": ("leader_election", _switch),
    "PILOT_TRACE_SAMPLING": ("trace_sampling", _percent),
    "PILOT_DNS_JITTER_DURATION": ("dns_jitter", _time),
    "PILOT_DNS_CARES_UDP_MAX_QUERIES": ("dns_queries", _count),
    "PILOT_ACCESS_LOG_RULES": ("log_rules", _switch),
    "PILOT_ENABLE_ANALYSIS": ("analysis", _switch),
    "PILOT_ENVOY_ADMISSION_TIMEOUT": ("envoy_admission", _time),
    "PILOT_MAX_STREAMS_PER_IDENTITY": ("streams_per_identity", _count),
    "PILOT_MEMORY_LIMIT": ("memory_limit", _bytes),
    "PILOT_SOURCE_AGE_LIMIT": ("source_age", _time),
    "PILOT_CA_ROTATION_WAIT": ("rotation_wait", _time),
    "DEFAULT_WORKLOAD_CERT_TTL": ("certificate_life", _life),
    "MAX_WORKLOAD_CERT_TTL": ("certificate_longest", _life),
    "SELF_SIGNED_CA_CERT_TTL": ("root_life", _life),
    "CITADEL_SELF_SIGNED_ROOT_CERT_CHECK_INTERVAL": ("root_check", _time),
    "CITADEL_SELF_SIGNED_ROOT_CERT_GRACE_PERIOD_PERCENTILE": ("root_grace", _percent),
    "PILOT_ENABLE_K8S_SELECT_WORKLOAD_ENTRIES": ("select_entries", _switch),
    "PILOT_ENABLE_IP_AUTOALLOCATE": ("allocate_addresses", _switch),
    "PILOT_SCOPE_GATEWAY_TO_NAMESPACE": ("scope_gateways", _switch),
    "PILOT_ALLOW_SIDECAR_SERVICE_INBOUND_LISTENER_MERGE": ("merge_ingress", _switch),
    "PILOT_GATEWAY_TRANSPORT_SOCKET_CONNECT_TIMEOUT": ("gateway_handshake", _time),
}
NAMES: Final = frozenset(_VARIABLES)
