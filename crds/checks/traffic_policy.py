"""DestinationRule: subsets and traffic policies (features rows G1-G14)."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from crds.checks import labels, locality, values, visibility
from crds.checks.findings import Findings
from crds.checks.patterns import repeated
from crds.destination_rule import (
    ClientTLSSettings,
    ConnectionPoolSettings,
    ConsistentHashLB,
    DestinationRule,
    HTTPCookie,
    HTTPSettings,
    LoadBalancerSettings,
    OutlierDetection,
    PortTrafficPolicy,
    RetryBudget,
    TCPSettings,
    TrafficPolicy,
    TunnelSettings,
    WarmupConfiguration,
    ZoneAwareLoadBalancerSetting,
)
from crds.diagnostic import Code
from wire import names

_FIRST_CODE: Final = 100
_LAST_CODE: Final = 599
_TOPOLOGY: Final = (names.LABEL_REGION, names.LABEL_ZONE, names.LABEL_SUBZONE)
_LARGEST_RING: Final = 8 * 1024 * 1024
_OWN_CERTIFICATES: Final = frozenset({"SIMPLE", "MUTUAL"})
_KEYS: Final = {"http_header_name", "http_cookie", "use_source_ip", "http_query_parameter_name"}
_LARGEST_TABLE: Final = 5_000_011  # Envoy's limit of a Maglev table


def check(item: DestinationRule, found: Findings) -> None:
    """Everything that one DestinationRule can be wrong about."""
    spec = item.spec
    if not spec.host:
        found.missing("spec.host")
    else:
        found.check("spec.host", values.wildcard_domain(spec.host))
    visibility.check(found, spec.export_to, only_own=spec.workload_selector is not None)
    if spec.workload_selector is not None:
        labels.selector(found, "spec.workloadSelector.matchLabels", spec.workload_selector.match_labels)
        if not spec.workload_selector.match_labels:
            found.warning("spec.workloadSelector", "has no labels")
    _policy(found, "spec.trafficPolicy", spec.traffic_policy)
    twice = {index for index, _ in repeated(subset.name for subset in spec.subsets)}
    for index, subset in enumerate(spec.subsets):
        field = f"spec.subsets[{index}]"
        if not subset.name:
            found.missing(f"{field}.name")
        elif not values.is_label(subset.name):
            found.error(f"{field}.name", f"{subset.name!r} is no subset name")
        elif index in twice:
            found.error(f"{field}.name", f"subset {subset.name} stands twice", Code.DUPLICATE_SUBSET)
        labels.check(found, f"{field}.labels", subset.labels)
        _policy(found, f"{field}.trafficPolicy", subset.traffic_policy)


def _policy(found: Findings, field: str, policy: TrafficPolicy | None) -> None:
    if policy is None:
        return
    if policy == TrafficPolicy():
        found.refuse(field, "says nothing")
    _common(found, field, policy)
    for index, port_policy in enumerate(policy.port_level_settings):
        _at_port(found, f"{field}.portLevelSettings[{index}]", port_policy)
    if policy.tunnel is not None:
        _tunnel(found, f"{field}.tunnel", policy.tunnel)
        if policy.proxy_protocol is not None:
            found.error(f"{field}.proxyProtocol", "excludes tunnel")
    if policy.retry_budget is not None:
        _retry_budget(found, f"{field}.retryBudget", policy.retry_budget)


def _retry_budget(found: Findings, field: str, budget: RetryBudget) -> None:
    """A time of 0 is none, which is Envoy's own."""
    if budget.percent is not None:
        found.check(f"{field}.percent", values.percent(budget.percent))
    if budget.budget_interval is not None and budget.budget_interval < values.ZERO:
        found.error(f"{field}.budgetInterval", "must not be negative")


def _at_port(found: Findings, field: str, policy: PortTrafficPolicy) -> None:
    if policy.port is None:
        found.missing(f"{field}.port")
    else:
        found.check(f"{field}.port.number", values.port(policy.port.number))
    if policy.model_copy(update={"port": None}) == PortTrafficPolicy():
        found.refuse(field, "says nothing about the port")
    _common(found, field, policy)


def _tunnel(found: Findings, field: str, tunnel: TunnelSettings) -> None:
    found.check(f"{field}.targetPort", values.port(tunnel.target_port))
    if not values.is_address(tunnel.target_host):
        found.check(f"{field}.targetHost", values.domain(tunnel.target_host))
    if tunnel.protocol not in {"", "CONNECT", "POST"}:
        found.error(f"{field}.protocol", f"{tunnel.protocol!r} is neither CONNECT nor POST")


def _common(found: Findings, field: str, policy: TrafficPolicy | PortTrafficPolicy) -> None:
    if policy.load_balancer is not None:
        _balancing(found, f"{field}.loadBalancer", policy.load_balancer)
    if policy.connection_pool is not None:
        pool(found, f"{field}.connectionPool", policy.connection_pool)
    if policy.outlier_detection is not None:
        _ejection(found, f"{field}.outlierDetection", policy.outlier_detection)
    if policy.tls is not None:
        _tls(found, f"{field}.tls", policy.tls)


def _balancing(found: Findings, field: str, settings: LoadBalancerSettings) -> None:
    if settings.simple is not None and settings.consistent_hash is not None:
        found.error(f"{field}.consistentHash", "excludes simple")
    if settings.consistent_hash is not None:
        _hash(found, f"{field}.consistentHash", settings.consistent_hash)
    if settings.locality_lb_setting is not None and settings.zone_aware_lb_setting is not None:
        found.error(f"{field}.zoneAwareLbSetting", "excludes localityLbSetting")
    if settings.locality_lb_setting is not None:
        locality.check(found, f"{field}.localityLbSetting", settings.locality_lb_setting)
    if settings.zone_aware_lb_setting is not None:
        _zones(found, f"{field}.zoneAwareLbSetting", settings.zone_aware_lb_setting)
    found.check(f"{field}.warmupDurationSecs", values.duration(settings.warmup_duration_secs))
    if settings.warmup is not None:
        _warmup(found, f"{field}.warmup", settings.warmup)


def _warmup(found: Findings, field: str, settings: WarmupConfiguration) -> None:
    if settings.duration is None:
        found.missing(f"{field}.duration")
    found.check(f"{field}.duration", values.duration(settings.duration))
    found.check(f"{field}.minimumPercent", values.percent(settings.minimum_percent or 0))
    if settings.aggression is not None and settings.aggression < 1:
        (found.refuse if settings.aggression >= 0 else found.error)(f"{field}.aggression", "must be at least 1")


def _zones(found: Findings, field: str, settings: ZoneAwareLoadBalancerSetting) -> None:
    for index, label in enumerate(settings.failover_priority):
        if label.partition("=")[0] in _TOPOLOGY:
            found.error(f"{field}.failoverPriority[{index}]", f"{label}: regions and zones are told apart anyway")


def _hash(found: Findings, field: str, settings: ConsistentHashLB) -> None:
    if len(settings.model_dump(include=_KEYS, exclude_none=True)) > 1:
        found.error(field, "only one of httpHeaderName, httpCookie, useSourceIp and httpQueryParameterName can be set")
    found.check(f"{field}.httpHeaderName", values.line(settings.http_header_name or ""))
    if settings.http_cookie is not None:
        _cookie(found, f"{field}.httpCookie", settings.http_cookie)
    if settings.minimum_ring_size:
        found.warning(f"{field}.minimumRingSize", "is deprecated; use ringHash")
        _ring(found, f"{field}.minimumRingSize", settings.minimum_ring_size)
    if settings.ring_hash is not None:
        _ring(found, f"{field}.ringHash.minimumRingSize", settings.ring_hash.minimum_ring_size)
    if settings.maglev is not None:
        size = settings.maglev.table_size
        if size >= _LARGEST_TABLE or not _is_prime(size):
            found.error(f"{field}.maglev.tableSize", f"{size} is no prime number below {_LARGEST_TABLE}")
    algorithms = {
        "ringHash": settings.ring_hash is not None,
        "maglev": settings.maglev is not None,
        "minimumRingSize": bool(settings.minimum_ring_size),
    }
    for name in [name for name, said in algorithms.items() if said][1:]:
        found.error(f"{field}.{name}", "excludes ringHash and maglev, and these each other")


def _ring(found: Findings, field: str, size: int) -> None:
    if size > _LARGEST_RING:
        found.error(field, f"{size} is more than {_LARGEST_RING}, the most that Envoy takes")


def _cookie(found: Findings, field: str, cookie: HTTPCookie) -> None:
    if not cookie.name:
        found.missing(f"{field}.name")
    for name, value in (("name", cookie.name), ("path", cookie.path)):
        found.check(f"{field}.{name}", values.line(value))
    found.check(f"{field}.ttl", values.duration(cookie.ttl, least=values.ZERO))
    for index, attribute in enumerate(cookie.attributes):
        if not attribute.name:
            found.missing(f"{field}.attributes[{index}].name")
        found.check(f"{field}.attributes[{index}]", values.line(attribute.name + attribute.value))


def _is_prime(number: int) -> bool:
    """As Envoy has it, to which 1 is one."""
    return number > 0 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))


def pool(found: Findings, field: str, settings: ConnectionPoolSettings) -> None:
    """Connection pools, of DestinationRules and Sidecars."""
    if settings.tcp is None and settings.http is None:
        found.error(field, "tcp or http must be given")
    if settings.tcp is not None:
        _tcp(found, f"{field}.tcp", settings.tcp)
    if settings.http is not None:
        _http(found, f"{field}.http", settings.http)


def _tcp(found: Findings, field: str, settings: TCPSettings) -> None:
    _counts(found, field, {"maxConnections": settings.max_connections})
    found.check(f"{field}.connectTimeout", values.duration(settings.connect_timeout))
    found.check(f"{field}.maxConnectionDuration", values.duration(settings.max_connection_duration))
    found.check(f"{field}.idleTimeout", values.duration(settings.idle_timeout, least=values.ZERO))
    if settings.tcp_keepalive is not None:
        for name, value in (("time", settings.tcp_keepalive.time), ("interval", settings.tcp_keepalive.interval)):
            found.lasts(f"{field}.tcpKeepalive.{name}", value)


def _http(found: Findings, field: str, settings: HTTPSettings) -> None:
    counts = {
        "http1MaxPendingRequests": settings.http1_max_pending_requests,
        "http2MaxRequests": settings.http2_max_requests,
        "maxRequestsPerConnection": settings.max_requests_per_connection,
        "maxRetries": settings.max_retries,
        "maxConcurrentStreams": settings.max_concurrent_streams,
    }
    _counts(found, field, counts)
    found.lasts(f"{field}.idleTimeout", settings.idle_timeout)
    if settings.h2_upgrade_policy == "UPGRADE" and settings.use_client_protocol:
        found.error(f"{field}.useClientProtocol", "excludes h2UpgradePolicy UPGRADE")
    keepalive = settings.http2_keepalive
    if keepalive is not None:
        for name, value in (("interval", keepalive.interval), ("timeout", keepalive.timeout)):
            if value is None:
                found.missing(f"{field}.http2KeepAlive.{name}")
            found.check(f"{field}.http2KeepAlive.{name}", values.duration(value))


def _counts(found: Findings, field: str, counts: dict[str, int]) -> None:
    for name, value in counts.items():
        if value < 0:
            found.error(f"{field}.{name}", f"{value} is negative")


def _ejection(found: Findings, field: str, settings: OutlierDetection) -> None:
    durations: dict[str, timedelta | None] = {
        "interval": settings.interval,
        "baseEjectionTime": settings.base_ejection_time,
    }
    for name, value in durations.items():
        found.check(f"{field}.{name}", values.duration(value))
    found.check(f"{field}.maxEjectionPercent", values.percent(settings.max_ejection_percent))
    found.check(f"{field}.minHealthPercent", values.percent(settings.min_health_percent))
    for i, code in enumerate(settings.http_error_codes):
        if not _FIRST_CODE <= code <= _LAST_CODE:
            found.error(f"{field}.outlierDetectionHttpErrorCodes[{i}]", f"{code} is no status of HTTP (100-599)")
    if settings.consecutive_local_origin_failures and not settings.split_external_local_origin_errors:
        found.error(f"{field}.consecutiveLocalOriginFailures", "needs splitExternalLocalOriginErrors")


def _tls(found: Findings, field: str, settings: ClientTLSSettings) -> None:
    found.check(f"{field}.sni", values.server_name(settings.sni))
    if settings.mode not in _OWN_CERTIFICATES:
        return
    pair = {"clientCertificate": settings.client_certificate, "privateKey": settings.private_key}
    verified = {
        "caCertificates": settings.ca_certificates,
        "credentialName": settings.credential_name if settings.mode == "SIMPLE" else "",
        "subjectAltNames": settings.subject_alt_names,
    }
    files = {**pair, "caCertificates": settings.ca_certificates}
    excluded = {name: "credentialName" for name, value in files.items() if value and settings.credential_name}
    if settings.insecure_skip_verify:
        excluded |= {name: "insecureSkipVerify" for name, value in verified.items() if value}
    for name, other in excluded.items():
        found.error(f"{field}.{name}", f"excludes {other}")
    if settings.credential_name and settings.ca_crl:
        found.refuse(f"{field}.caCrl", "excludes credentialName")
    for name, value in pair.items():
        if settings.mode == "MUTUAL" and not value and not settings.credential_name:
            found.missing(f"{field}.{name}")
