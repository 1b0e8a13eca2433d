"""A DestinationRule's traffic policy, field by field, into ours (features rows G4-G11, G14).

0 and absence mean "not said" throughout, as in Istio's API. Which policy replaces which is destination_rules.py's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from crds import destination_rule as api
from istiod.mesh import locality
from istiod.mesh.policy import (
    ClientTls,
    ConnectionPool,
    HashCookie,
    HashPolicy,
    Keepalive,
    LbAlgorithm,
    LoadBalancer,
    OutlierDetection,
    RetryBudget,
    TlsMode,
    Tunnel,
    Warmup,
)

_SIMPLE = {
    "RANDOM": LbAlgorithm.RANDOM,
    "ROUND_ROBIN": LbAlgorithm.ROUND_ROBIN,
    "PASSTHROUGH": LbAlgorithm.PASSTHROUGH,
}
_UPGRADE = {"UPGRADE": True, "DO_NOT_UPGRADE": False}
_RING = 1024


def load_balancer(said: api.LoadBalancerSettings | None) -> LoadBalancer:
    """How an endpoint is picked; LEAST_REQUEST where nothing else is said."""
    if said is None:
        return LoadBalancer()
    local, zones = said.locality_lb_setting, said.zone_aware_lb_setting
    found = LoadBalancer(
        algorithm=_SIMPLE.get(said.simple or "", LbAlgorithm.LEAST_REQUEST),
        locality=locality.setting(local) if local else locality.zone_aware(zones) if zones and _by_zone(said) else None,
        warmup=_warmup(said),
    )
    return _hashing(found, said.consistent_hash) if said.consistent_hash else found


def _by_zone(said: api.LoadBalancerSettings) -> bool:
    """Whether zones may count for its choice: a hash is for the same endpoint wherever it is, as is an app's choice."""
    return said.consistent_hash is None and said.simple != "PASSTHROUGH"


def _hashing(found: LoadBalancer, said: api.ConsistentHashLB) -> LoadBalancer:
    policy = _hash_policy(said)
    if said.maglev is not None:
        return replace(
            found, algorithm=LbAlgorithm.MAGLEV, hash=policy, maglev_table_size=said.maglev.table_size, warmup=None
        )
    size = (said.ring_hash.minimum_ring_size if said.ring_hash else 0) or said.minimum_ring_size or _RING
    return replace(found, algorithm=LbAlgorithm.RING_HASH, hash=policy, minimum_ring_size=size, warmup=None)


def _hash_policy(said: api.ConsistentHashLB) -> HashPolicy | None:
    if said.http_header_name:
        return HashPolicy(header=said.http_header_name)
    if (cookie := said.http_cookie) is not None:
        attributes = tuple((a.name, a.value) for a in cookie.attributes)
        return HashPolicy(cookie=HashCookie(name=cookie.name, path=cookie.path, ttl=cookie.ttl, attributes=attributes))
    if said.use_source_ip:
        return HashPolicy(source_ip=True)
    if said.http_query_parameter_name:
        return HashPolicy(query_parameter=said.http_query_parameter_name)
    return None


def _warmup(said: api.LoadBalancerSettings) -> Warmup | None:
    if (warmup := said.warmup) is not None and warmup.duration:
        default = Warmup(duration=warmup.duration)
        return replace(
            default,
            minimum_percent=default.minimum_percent if warmup.minimum_percent is None else warmup.minimum_percent,
            aggression=default.aggression if warmup.aggression is None else warmup.aggression,
        )
    return Warmup(duration=said.warmup_duration_secs) if said.warmup_duration_secs else None


def connection_pool(said: api.ConnectionPoolSettings | None) -> ConnectionPool:
    """Limits and times of connections."""
    if said is None:
        return ConnectionPool()
    tcp, http = said.tcp or api.TCPSettings(), said.http or api.HTTPSettings()
    ping = http.http2_keepalive or api.Http2KeepAlive()
    return ConnectionPool(
        max_connections=tcp.max_connections or None,
        connect_timeout=tcp.connect_timeout or None,
        keepalive=keepalive(tcp.tcp_keepalive),
        max_connection_duration=tcp.max_connection_duration or None,
        tcp_idle_timeout=tcp.idle_timeout,
        http1_max_pending_requests=http.http1_max_pending_requests or None,
        http2_max_requests=http.http2_max_requests or None,
        max_requests_per_connection=http.max_requests_per_connection or None,
        max_retries=http.max_retries or None,
        http_idle_timeout=http.idle_timeout,
        h2_upgrade=_UPGRADE.get(http.h2_upgrade_policy),
        use_client_protocol=http.use_client_protocol,
        max_concurrent_streams=http.max_concurrent_streams or None,
        http2_keepalive_interval=ping.interval or None,
        http2_keepalive_timeout=ping.timeout or None,
    )


def keepalive(said: api.TcpKeepalive | None) -> Keepalive | None:
    """TCP keepalive as the API has it."""
    if said is None:
        return None
    return Keepalive(probes=said.probes or None, time=said.time or None, interval=said.interval or None)


def outlier_detection(said: api.OutlierDetection | None) -> OutlierDetection | None:
    """Ejection of failing endpoints; its presence alone switches it on with Envoy's defaults."""
    if said is None:
        return None
    return OutlierDetection(
        consecutive_5xx=said.consecutive_5xx_errors,
        consecutive_gateway=said.consecutive_gateway_errors,
        consecutive_local_origin=said.consecutive_local_origin_failures,
        split_external_local=said.split_external_local_origin_errors,
        interval=said.interval or None,
        base_ejection_time=said.base_ejection_time or None,
        max_ejection_percent=said.max_ejection_percent or None,
        min_health_percent=max(said.min_health_percent, 0),
        error_codes=tuple(sorted(set(said.http_error_codes))),
    )


def client_tls(said: api.ClientTLSSettings | None) -> ClientTls | None:
    """Upstream TLS; None lets auto mTLS decide."""
    if said is None:
        return None
    return ClientTls(
        mode=TlsMode(said.mode),
        sni=said.sni,
        subject_alt_names=said.subject_alt_names,
        client_certificate=said.client_certificate,
        private_key=said.private_key,
        ca_certificates=said.ca_certificates,
        ca_crl=said.ca_crl,
        credential_name=said.credential_name,
        insecure_skip_verify=bool(said.insecure_skip_verify),
    )


def retry_budget(said: api.RetryBudget) -> RetryBudget:
    """Retries in proportion to active requests."""
    default = RetryBudget()
    return RetryBudget(
        percent=default.percent if said.percent is None else said.percent,
        min_retry_concurrency=said.min_retry_concurrency or default.min_retry_concurrency,
        interval=said.budget_interval or None,
    )


def tunnel(said: api.TunnelSettings) -> Tunnel:
    """TCP through an HTTP proxy, by CONNECT where nothing is said."""
    host = f"[{said.target_host}]" if ":" in said.target_host else said.target_host
    return Tunnel(target=f"{host}:{said.target_port}", post=said.protocol == "POST")


_FILES = ("client_certificate", "private_key", "ca_certificates", "ca_crl")
_OF_CERTIFICATES = (*_FILES, "credential_name", "insecure_skip_verify")
_UNUSED_TLS = {
    "DISABLE": (*_OF_CERTIFICATES, "sni", "subject_alt_names"),
    "ISTIO_MUTUAL": _OF_CERTIFICATES,
    "SIMPLE": ("client_certificate", "private_key"),
}
_UNWARMED = ("RANDOM", "PASSTHROUGH")


def without_effect(
    said: api.TrafficPolicy | api.PortTrafficPolicy, *, selects: bool = False
) -> Iterator[tuple[str, str]]:
    """Field paths, below the policy, of what is read and has no effect, and why. ``selects``: its rule does."""
    if isinstance(said, api.TrafficPolicy):
        for i, port in enumerate(said.port_level_settings):
            yield from ((f"portLevelSettings[{i}].{path}", why) for path, why in without_effect(port, selects=selects))
    if said.load_balancer:
        yield from _of_balancer(said.load_balancer)
    if said.tls:
        yield from _of_tls(said.tls, selects=selects)


def _of_balancer(said: api.LoadBalancerSettings) -> Iterator[tuple[str, str]]:
    choice = "consistentHash" if said.consistent_hash else said.simple
    if said.zone_aware_lb_setting and not _by_zone(said):
        yield "loadBalancer.zoneAwareLbSetting", f"has no effect with {choice}: the endpoint is not chosen by its zone"
    if _warmup(said) and (said.consistent_hash or said.simple in _UNWARMED):
        field = "warmup" if said.warmup else "warmupDurationSecs"
        yield f"loadBalancer.{field}", f"has no effect with {choice}: Envoy warms up with ROUND_ROBIN and LEAST_REQUEST"


def _of_tls(said: api.ClientTLSSettings, *, selects: bool) -> Iterator[tuple[str, str]]:
    """What a mode has no use for.

    A Secret is for routers, and for sidecars that a rule selects: else any namespace's sidecar would have to get it.
    """
    unused = dict.fromkeys(_UNUSED_TLS.get(said.mode, ()), f"mode {said.mode}")
    if said.credential_name and "credential_name" not in unused:
        unused = {**dict.fromkeys(_FILES, "credentialName"), **unused}
        if not selects:
            yield "tls.credentialName", "is for gateways only: sidecars send plaintext to this host, as under Istio"
    if said.insecure_skip_verify:
        unused = {"ca_crl": "insecureSkipVerify", **unused}
    for name, by in unused.items():
        if getattr(said, name):
            yield f"tls.{api.ClientTLSSettings.model_fields[name].alias}", f"has no effect with {by}"
