"""What Kiali and Istio's stock Grafana dashboards ask Prometheus for: their metrics, labels and functions.

Kiali draws its graph of the labels that it groups by, and asks for the same with other metrics; Istio's dashboards
ask for each side of a service or workload. Durations are theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from istioctl import metrics

_SOURCE: Final = "source_cluster,source_workload_namespace,source_workload,source_canonical_service"
_DESTINATION: Final = (
    "destination_cluster,destination_service_namespace,destination_service,destination_service_name,"
    "destination_workload_namespace,destination_workload,destination_canonical_service"
)
_NODES: Final = f"{_SOURCE},source_canonical_revision,{_DESTINATION},destination_canonical_revision"
_VERSIONS: Final = f"{_SOURCE},source_app,source_version,{_DESTINATION},destination_app,destination_version"
_FROM: Final = '{reporter="source",source_workload_namespace="default"}'
_TO: Final = '{reporter="destination",destination_service_namespace="default"}'
_TCP_TO: Final = '{reporter="destination",destination_workload_namespace="default"}'
_HTTP: Final = "request_protocol,response_code,grpc_response_status,response_flags"
_MILLISECONDS: Final = "istio_request_duration_milliseconds_bucket"


def kiali() -> Iterator[str]:
    """Its graph and its tabs."""
    for side in (_FROM, _TO):
        for nodes in (_NODES, _VERSIONS):
            yield f"sum(rate(istio_requests_total{side}[60s])) by ({nodes},{_HTTP}) > 0"
        for metric in ("istio_request_bytes_sum", "istio_response_bytes_sum"):
            yield f"sum(rate({metric}{side}[60s])) by ({_NODES}) > 0"
        for quantile in (0.5, 0.95, 0.99):
            yield f"histogram_quantile({quantile}, sum(rate({_MILLISECONDS}{side}[60s])) by (le,{_NODES})) > 0"
        mean = "rate(istio_request_duration_milliseconds"
        yield f"sum({mean}_sum{side}[60s])) by ({_NODES}) / sum({mean}_count{side}[60s])) by ({_NODES}) > 0"
    yield f"rate(istio_requests_total{_TO}[60s])"
    yield 'sum(rate(istio_requests_total{reporter="source",destination_service_name="echo"}[60s])) by (response_code)'
    yield from _connections()


def _connections() -> Iterator[str]:
    for side in (_FROM, _TCP_TO):
        for metric in ("istio_tcp_sent_bytes_total", "istio_tcp_received_bytes_total"):
            yield f"sum(rate({metric}{side}[60s])) by ({_NODES},response_flags) > 0"
    for metric in ("istio_request_messages_total", "istio_response_messages_total"):
        yield f"sum(rate({metric}{_FROM}[60s])) by ({_NODES}) > 0"
    policy = "connection_security_policy,source_principal,destination_principal"
    for metric in ("istio_requests_total", "istio_tcp_sent_bytes_total"):
        mutual = '{reporter="destination",connection_security_policy="mutual_tls"}'
        yield f"sum(rate({metric}{mutual}[60s])) by ({_NODES},{policy}) > 0"


def grafana() -> Iterator[str]:
    """The dashboards mesh, service, workload, performance and control plane of Istio's own addon."""
    yield 'round(sum(irate(istio_requests_total{reporter=~"source|waypoint"}[5m])), 0.01)'
    good = 'istio_requests_total{reporter=~"source|waypoint",response_code!~"5.*"}'
    yield f'sum(rate({good}[5m])) / sum(rate(istio_requests_total{{reporter=~"source|waypoint"}}[5m]))'
    for code in ("4.*", "5.*"):
        yield f'sum(irate(istio_requests_total{{reporter=~"source|waypoint",response_code=~"{code}"}}[5m]))'
    workload = "destination_workload,destination_workload_namespace,destination_service"
    joined = '"destination_workload_var","." ,"destination_workload","destination_workload_namespace"'
    yield f"label_join(sum(rate(istio_requests_total[1m])) by ({workload}), {joined})"
    quantile = f'histogram_quantile(0.99, sum(rate({_MILLISECONDS}{{reporter="source"}}[1m])) by (le,{workload}))'
    yield f"label_join({quantile}, {joined})"
    yield "sum(istio_build) by (component, tag)"
    for side in ('reporter=~"source",destination_service=~"echo.default.svc.cluster.local"', 'reporter=~"destination"'):
        for moment in (0.5, 0.9, 0.95, 0.99):
            buckets = f"sum(irate({_MILLISECONDS}{{{side}}}[1m])) by (le)"
            yield f"(histogram_quantile({moment}, {buckets}) / 1000) or histogram_quantile({moment}, {buckets})"
        for size in ("istio_request_bytes_bucket", "istio_response_bytes_bucket"):
            groups = "source_workload, source_workload_namespace, le"
            yield f"histogram_quantile(0.5, sum(irate({size}{{{side}}}[1m])) by ({groups}))"
    for policy in ('connection_security_policy="mutual_tls"', 'connection_security_policy!="mutual_tls"'):
        labels = f'{policy},destination_service=~".*",reporter="destination"'
        yield f"round(sum(irate(istio_requests_total{{{labels}}}[5m])) by (source_workload, response_code), 0.001)"
    for metric in ("istio_tcp_sent_bytes_total", "istio_tcp_received_bytes_total"):
        yield f'round(sum(irate({metric}{{reporter="source"}}[1m])) by (destination_workload), 0.001)'
    yield from _control_plane()


def istioctl() -> Iterator[str]:
    """The command x metrics, but for errors: of echo's own proxy there are none."""
    yield from (each for each in metrics.queries("echo-v1.default", 60) if "response_code" not in each)


def _control_plane() -> Iterator[str]:
    yield 'sum(pilot_xds{app="istiod"}) or sum(pilot_xds)'
    yield 'count by (tag) (istio_build{component="pilot"})'
    for type_ in ("cds", "eds", "lds", "rds"):
        yield f'sum(irate(pilot_xds_pushes{{type="{type_}"}}[1m]))'
        yield f"pilot_xds_{type_}_reject or (absent(pilot_xds_{type_}_reject) - 1)"
    yield "sum(rate(pilot_xds_push_context_errors[1m]))"
    yield "sum(rate(pilot_total_xds_internal_errors[1m]))"
    yield "sum(rate(pilot_xds_write_timeout[1m]))"
    for moment in (0.5, 0.9, 0.99, 0.999):
        yield f"histogram_quantile({moment}, sum(rate(pilot_proxy_convergence_time_bucket[1m])) by (le))"
        yield f"histogram_quantile({moment}, sum(rate(pilot_xds_config_size_bytes_bucket[1m])) by (le))"
    for name in ("inbound_listener", "outbound_listener_tcp_over_current_tcp"):
        yield f"pilot_conflict_{name}"
    for metric in ("pilot_virt_services", "pilot_services", "pilot_endpoint_not_ready"):
        yield f"avg({metric})"
    for metric in ("galley_validation_passed", "sidecar_injection_success_total", "citadel_server_csr_count"):
        yield f"sum(rate({metric}[1m]))"
    yield 'irate(process_cpu_seconds_total{app="istiod"}[1m])'
    yield 'process_resident_memory_bytes{app="istiod"}'
