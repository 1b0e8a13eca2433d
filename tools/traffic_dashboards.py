"""The dashboards of traffic and proxies: mesh, service, workload, performance."""

from __future__ import annotations

from typing import Final

from tools.panels import Dashboard, Panel, either_side, panel, quantile, quantiles, rate, success, values

_RATE: Final = "[$__rate_interval]"
_DURATION: Final = "istio_request_duration_milliseconds"


def _golden(matchers: str, by: str) -> tuple[Panel, ...]:
    """Requests, success and duration of what the matchers choose."""
    return (
        panel("Requests", (rate("istio_requests_total", matchers, by), _legend(by)), unit="reqps"),
        panel("Success (no 5xx)", (success(matchers), "success"), unit="percentunit"),
        panel("Duration", *quantiles(_DURATION, matchers), unit="ms"),
        panel(
            "Responses by code",
            (rate("istio_requests_total", matchers, "response_code"), "{{response_code}}"),
            unit="reqps",
        ),
        panel(
            "By flags of Envoy",
            (rate("istio_requests_total", f'{matchers},response_flags!="-"', "response_flags"), "{{response_flags}}"),
            unit="reqps",
        ),
        panel(
            "Bytes of requests and responses",
            (rate("istio_request_bytes_sum", matchers), "requests"),
            (rate("istio_response_bytes_sum", matchers), "responses"),
            unit="Bps",
        ),
    )


def _tcp(matchers: str) -> tuple[Panel, ...]:
    return (
        panel(
            "TCP bytes",
            (rate("istio_tcp_sent_bytes_total", matchers), "sent"),
            (rate("istio_tcp_received_bytes_total", matchers), "received"),
            unit="Bps",
        ),
        panel("TCP connections opened", (rate("istio_tcp_connections_opened_total", matchers), "opened")),
        panel("TCP connections closed", (rate("istio_tcp_connections_closed_total", matchers), "closed")),
    )


def _legend(by: str) -> str:
    return " / ".join(f"{{{{{each.strip()}}}}}" for each in by.split(","))


_CLIENT: Final = 'reporter="source"'
_SERVICE: Final = 'reporter=~"$reporter",destination_service=~"$service"'
_INBOUND: Final = (
    'reporter="destination",destination_workload_namespace=~"$namespace",destination_workload=~"$workload"'
)
_OUTBOUND: Final = 'reporter="source",source_workload_namespace=~"$namespace",source_workload=~"$workload"'

MESH = Dashboard(
    name="mesh",
    title="Mesh",
    variables=(),
    rows=(
        (
            "All traffic, as clients see it",
            (
                panel(
                    "Requests", (rate("istio_requests_total", _CLIENT), "requests"), unit="reqps", kind="stat", width=6
                ),
                panel("Success (no 5xx)", (success(_CLIENT), "success"), unit="percentunit", kind="stat", width=6),
                panel(
                    "4xx",
                    (rate("istio_requests_total", f'{_CLIENT},response_code=~"4.*"'), "4xx"),
                    unit="reqps",
                    kind="stat",
                    width=6,
                ),
                panel(
                    "5xx",
                    (rate("istio_requests_total", f'{_CLIENT},response_code=~"5.*"'), "5xx"),
                    unit="reqps",
                    kind="stat",
                    width=6,
                ),
                *_golden(_CLIENT, "destination_service_namespace"),
            ),
        ),
        (
            "Services",
            (
                panel(
                    "Requests by service",
                    (
                        f"topk(20, {rate('istio_requests_total', _CLIENT, 'destination_service')})",
                        "{{destination_service}}",
                    ),
                    unit="reqps",
                    width=12,
                ),
                panel(
                    "p99 by service",
                    (
                        f"topk(20, {quantile(0.99, _DURATION, _CLIENT, 'destination_service')})",
                        "{{destination_service}}",
                    ),
                    unit="ms",
                    width=12,
                ),
                panel(
                    "Plaintext requests",
                    (
                        rate(
                            "istio_requests_total",
                            'reporter="destination",connection_security_policy!="mutual_tls"',
                            "destination_service",
                        ),
                        "{{destination_service}}",
                    ),
                    unit="reqps",
                    width=12,
                ),
                panel("Proxies by version", ("sum(pilot_xds) by (version)", "{{version}}"), width=12),
            ),
        ),
        ("TCP", _tcp(_CLIENT)),
    ),
)
SERVICE = Dashboard(
    name="service",
    title="Service",
    variables=(
        values("service", "istio_requests_total", "destination_service"),
        values("reporter", "istio_requests_total", "reporter"),
    ),
    rows=(
        ("$service", _golden(_SERVICE, "source_workload")),
        (
            "Who calls",
            (
                panel(
                    "Requests by client",
                    (
                        rate("istio_requests_total", _SERVICE, "source_workload, source_workload_namespace"),
                        "{{source_workload}}.{{source_workload_namespace}}",
                    ),
                    unit="reqps",
                    width=12,
                ),
                panel(
                    "p99 by client",
                    (
                        quantile(0.99, _DURATION, _SERVICE, "source_workload"),
                        "{{source_workload}}",
                    ),
                    unit="ms",
                    width=12,
                ),
            ),
        ),
        (
            "Who serves",
            (
                panel(
                    "Requests by workload and version",
                    (
                        rate("istio_requests_total", _SERVICE, "destination_workload, destination_version"),
                        "{{destination_workload}} {{destination_version}}",
                    ),
                    unit="reqps",
                    width=12,
                ),
                panel(
                    "p99 by workload",
                    (
                        quantile(0.99, _DURATION, _SERVICE, "destination_workload"),
                        "{{destination_workload}}",
                    ),
                    unit="ms",
                    width=12,
                ),
            ),
        ),
        ("TCP", _tcp(_SERVICE)),
    ),
)
WORKLOAD = Dashboard(
    name="workload",
    title="Workload",
    variables=(
        either_side("namespace", "workload_namespace"),
        either_side("workload", "workload", 'workload_namespace=~"$namespace"'),
    ),
    rows=(
        ("What $workload serves", _golden(_INBOUND, "source_workload")),
        ("What $workload asks", _golden(_OUTBOUND, "destination_service")),
        ("TCP in", _tcp(_INBOUND)),
        ("TCP out", _tcp(_OUTBOUND)),
    ),
)
PERFORMANCE = Dashboard(
    name="performance",
    title="Performance",
    variables=(values("namespace", "istio_agent_scrapes_total", "namespace"),),
    rows=(
        (
            "Proxies",
            (
                panel(
                    "Memory of Envoy",
                    ('envoy_server_memory_allocated{namespace=~"$namespace"}', "{{pod}}"),
                    unit="bytes",
                ),
                panel(
                    "Heap of Envoy", ('envoy_server_memory_heap_size{namespace=~"$namespace"}', "{{pod}}"), unit="bytes"
                ),
                panel(
                    "Memory of the agent",
                    ('istio_agent_process_resident_memory_bytes{namespace=~"$namespace"}', "{{pod}}"),
                    unit="bytes",
                ),
                panel(
                    "CPU of the agent",
                    (f'rate(istio_agent_process_cpu_seconds_total{{namespace=~"$namespace"}}{_RATE})', "{{pod}}"),
                    unit="cores",
                ),
                panel("Connections to Envoy", ('envoy_server_total_connections{namespace=~"$namespace"}', "{{pod}}")),
                panel(
                    "Seconds until a proxy was ready",
                    ('istio_agent_startup_duration_seconds{namespace=~"$namespace"}', "{{pod}}"),
                    unit="s",
                ),
                panel(
                    "Certificates: seconds left",
                    ('istio_agent_cert_expiry_seconds{namespace=~"$namespace"}', "{{pod}}"),
                    unit="s",
                ),
                panel(
                    "Certificates that were not had",
                    (f'rate(istio_agent_num_failed_outgoing_requests{{namespace=~"$namespace"}}{_RATE})', "{{pod}}"),
                ),
                panel(
                    "Scrapes that lacked a part",
                    (f'rate(istio_agent_scrape_failures_total{{namespace=~"$namespace"}}{_RATE})', "{{pod}} {{type}}"),
                ),
            ),
        ),
        (
            "Configuration in Envoy",
            (
                panel("Clusters", ('envoy_cluster_manager_active_clusters{namespace=~"$namespace"}', "{{pod}}")),
                panel(
                    "Listeners", ('envoy_listener_manager_total_listeners_active{namespace=~"$namespace"}', "{{pod}}")
                ),
                panel(
                    "Listeners that drain",
                    ('envoy_listener_manager_total_listeners_draining{namespace=~"$namespace"}', "{{pod}}"),
                ),
            ),
        ),
    ),
)
