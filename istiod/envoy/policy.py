"""A cluster's traffic policy: picking endpoints, limits, ejection (features rows G4-G10, G14)."""

from __future__ import annotations

from datetime import timedelta
from functools import lru_cache

from envoy.config.cluster.v3 import circuit_breaker_pb2, cluster_pb2, outlier_detection_pb2
from envoy.config.core.v3 import address_pb2
from google.protobuf import wrappers_pb2

from istiod.config import resource
from istiod.envoy import wellknown
from istiod.mesh.policy import (
    ConnectionPool,
    Keepalive,
    LbAlgorithm,
    LoadBalancer,
    OutlierDetection,
    RetryBudget,
    TrafficPolicy,
    Warmup,
)
from istiod.mesh.scope import Cluster, Direction, Discovery
from istiod.mesh.settings import MeshSettings

_Cluster = cluster_pb2.Cluster
_NO_LIMIT = 4_294_967_295
_CHOOSE_THEMSELVES = (Discovery.ORIGINAL_DST, Discovery.DYNAMIC_DNS)
_ALGORITHMS = {
    LbAlgorithm.LEAST_REQUEST: _Cluster.LEAST_REQUEST,
    LbAlgorithm.ROUND_ROBIN: _Cluster.ROUND_ROBIN,
    LbAlgorithm.RANDOM: _Cluster.RANDOM,
    LbAlgorithm.PASSTHROUGH: _Cluster.CLUSTER_PROVIDED,
    LbAlgorithm.RING_HASH: _Cluster.RING_HASH,
    LbAlgorithm.MAGLEV: _Cluster.MAGLEV,
}
_BUDGET_INTERVAL = b"\x1a"
"""Field 3 of RetryBudget, which Envoy has and the messages that we build with do not know yet."""
_ENVOYS_WARMUP = (1.0, 10.0)
_WARMUP_RUNTIME_KEY = "("
"""A name that no runtime layer has: Envoy asks for one (as recorded from Istio)."""


def apply(found: cluster_pb2.Cluster, cluster: Cluster, settings: MeshSettings) -> None:
    """Write the cluster's policy into its message."""
    pool = cluster.policy.connection_pool
    connect = settings.connect_timeout if pool.connect_timeout is None else pool.connect_timeout
    wellknown.span(found.connect_timeout, connect)
    if cluster.discovery is Discovery.STATIC and not cluster.endpoints:
        return  # BlackHoleCluster: nothing to choose from, nothing to limit
    if cluster.discovery in _CHOOSE_THEMSELVES:
        found.lb_policy = _Cluster.CLUSTER_PROVIDED
    elif cluster.direction is not Direction.INBOUND:  # the app is the only endpoint there
        _balance(found, cluster.policy.load_balancer)
    found.circuit_breakers.thresholds.append(_thresholds(pool, cluster.policy.retry_budget))
    keepalive = pool.keepalive or (settings.tcp_keepalive if cluster.direction is not Direction.INBOUND else None)
    if keepalive is not None:
        found.upstream_connection_options.tcp_keepalive.CopyFrom(_keepalive(keepalive))
    if cluster.services and cluster.direction is not Direction.INBOUND:
        _common(found, cluster.policy, weighted=_weighted(cluster))


def _balance(found: cluster_pb2.Cluster, balancer: LoadBalancer) -> None:
    found.lb_policy = _ALGORITHMS[balancer.algorithm]
    if balancer.algorithm is LbAlgorithm.RING_HASH:
        found.ring_hash_lb_config.minimum_ring_size.value = balancer.minimum_ring_size
    elif balancer.algorithm is LbAlgorithm.MAGLEV and balancer.maglev_table_size:
        found.maglev_lb_config.table_size.value = balancer.maglev_table_size
    elif balancer.warmup is not None and balancer.algorithm is LbAlgorithm.LEAST_REQUEST:
        found.least_request_lb_config.slow_start_config.CopyFrom(_slow_start(balancer.warmup))
    elif balancer.warmup is not None and balancer.algorithm is LbAlgorithm.ROUND_ROBIN:
        found.round_robin_lb_config.slow_start_config.CopyFrom(_slow_start(balancer.warmup))


def _slow_start(warmup: Warmup) -> cluster_pb2.Cluster.SlowStartConfig:
    found = _Cluster.SlowStartConfig(slow_start_window=wellknown.duration(warmup.duration))
    if (warmup.aggression, warmup.minimum_percent) != _ENVOYS_WARMUP:
        found.aggression.default_value = warmup.aggression
        found.aggression.runtime_key = _WARMUP_RUNTIME_KEY
        found.min_weight_percent.value = warmup.minimum_percent
    return found


@lru_cache(maxsize=256)
def _thresholds(pool: ConnectionPool, budget: RetryBudget | None) -> circuit_breaker_pb2.CircuitBreakers.Thresholds:
    """Limits; without one of the user there is none (Envoy's own default of 1,024 surprised Istio's users)."""

    def limit(value: int | None) -> int:
        return _NO_LIMIT if value is None else value

    found = circuit_breaker_pb2.CircuitBreakers.Thresholds(
        max_connections=wellknown.uint32(limit(pool.max_connections)),
        max_pending_requests=wellknown.uint32(limit(pool.http1_max_pending_requests)),
        max_requests=wellknown.uint32(limit(pool.http2_max_requests)),
        max_retries=wellknown.uint32(limit(pool.max_retries)),
    )
    if budget is not None:
        found.retry_budget.budget_percent.value = budget.percent
        found.retry_budget.min_retry_concurrency.value = budget.min_retry_concurrency
        if budget.interval is not None:
            said = wellknown.encode(wellknown.duration(budget.interval))
            found.retry_budget.MergeFromString(resource.delimited(_BUDGET_INTERVAL, said))
    return found


def _keepalive(keepalive: Keepalive) -> address_pb2.TcpKeepalive:
    return address_pb2.TcpKeepalive(
        keepalive_probes=wellknown.uint32(keepalive.probes),
        keepalive_time=_seconds(keepalive.time),
        keepalive_interval=_seconds(keepalive.interval),
    )


def _seconds(value: timedelta | None) -> wrappers_pb2.UInt32Value | None:
    return None if value is None else wellknown.uint32(int(value.total_seconds()))


def _weighted(cluster: Cluster) -> bool:
    """Whether the weights of localities count: where somebody says how to spread, not for Istio's plain default."""
    asked = cluster.policy.load_balancer.locality or (cluster.query.locality_lb if cluster.query else None)
    if asked is None:
        return False
    return asked.zones_from is not None or bool(asked.distribute or asked.failover or asked.failover_priority)


def _common(found: cluster_pb2.Cluster, policy: TrafficPolicy, *, weighted: bool) -> None:
    outlier = policy.outlier_detection
    # A panic threshold of 0 %: a failing service fails, it does not send to hosts that were found bad. Envoy gathers
    # ejections for a second (update_merge_window), so that the second one of a moment counts that much later.
    if outlier is not None or not found.HasField("cluster_type"):
        found.common_lb_config.healthy_panic_threshold.value = outlier.min_health_percent if outlier else 0
    if weighted and found.lb_policy != _Cluster.CLUSTER_PROVIDED:
        found.common_lb_config.locality_weighted_lb_config.SetInParent()
    if outlier is not None:
        found.outlier_detection.CopyFrom(_outlier(outlier))


def _outlier(outlier: OutlierDetection) -> outlier_detection_pb2.OutlierDetection:
    """Istio's conversion: a count of 0 switches a check off, success rates are never used."""
    found = outlier_detection_pb2.OutlierDetection(
        interval=wellknown.optional_duration(outlier.interval),
        base_ejection_time=wellknown.optional_duration(outlier.base_ejection_time),
        max_ejection_percent=wellknown.uint32(outlier.max_ejection_percent),
        enforcing_success_rate=wellknown.uint32(0),
        consecutive_5xx=wellknown.uint32(outlier.consecutive_5xx),
        enforcing_consecutive_5xx=_enforced(outlier.consecutive_5xx),
        consecutive_gateway_failure=wellknown.uint32(outlier.consecutive_gateway),
        enforcing_consecutive_gateway_failure=_enforced(outlier.consecutive_gateway),
    )
    if outlier.split_external_local:
        found.split_external_local_origin_errors = True
        found.enforcing_local_origin_success_rate.value = 0
        if outlier.consecutive_local_origin is not None:
            found.consecutive_local_origin_failure.value = outlier.consecutive_local_origin
            found.enforcing_consecutive_local_origin_failure.value = 100 if outlier.consecutive_local_origin else 0
    return found


def _enforced(count: int | None) -> wrappers_pb2.UInt32Value | None:
    return None if count is None else wellknown.uint32(100 if count else 0)
