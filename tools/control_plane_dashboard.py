"""The dashboard of istiod itself."""

from __future__ import annotations

from typing import Final

from tools.panels import Dashboard, panel, quantile, quantiles, rate

_CONFLICT: Final = "pilot_conflict_"
CONTROL_PLANE = Dashboard(
    name="control-plane",
    title="Control plane",
    variables=(),
    rows=(
        (
            "Is every proxy served?",
            (
                panel(
                    "Staleness: age of the oldest change that some proxy lacks",
                    ("max(pilot_staleness_seconds)", "oldest"),
                    unit="s",
                ),
                panel(
                    "Proxies that lack something",
                    ("sum(pilot_stale_proxies)", "stale"),
                    ("sum(pilot_xds)", "connected"),
                ),
                panel(
                    "Resources that proxies refuse",
                    *((f"sum(pilot_xds_{each}_reject)", each) for each in ("cds", "eds", "lds", "rds")),
                ),
                panel("From a change to the proxies", *quantiles("pilot_proxy_convergence_time"), unit="s"),
                panel("Refused responses", (rate("pilot_total_xds_rejects", by="type"), "{{type}}")),
                panel(
                    "Faults",
                    (rate("pilot_total_xds_internal_errors"), "bugs"),
                    (rate("pilot_xds_write_timeout"), "clients that do not read"),
                    (rate("pilot_sds_certificate_errors_total"), "Secrets not given"),
                ),
            ),
        ),
        (
            "Pushes",
            (
                panel("Responses", (rate("pilot_xds_pushes", by="type"), "{{type}}"), unit="ops"),
                panel("What set them off", (rate("pilot_push_triggers", by="type"), "{{type}}"), unit="ops"),
                panel("Bytes", (rate("pilot_xds_config_size_bytes_sum", by="type"), "{{type}}"), unit="Bps"),
                panel(
                    "Seconds per second by stage",
                    (rate("pilot_push_stage_seconds_sum", by="stage"), "{{stage}}"),
                    unit="percentunit",
                ),
                panel("p99 by stage", (quantile(0.99, "pilot_push_stage_seconds", by="stage"), "{{stage}}"), unit="s"),
                panel("Building the mesh", *quantiles("pilot_pushcontext_init_seconds"), unit="s"),
                panel("Waiting to be pushed", *quantiles("pilot_debounce_time"), unit="s"),
                panel("Waiting for the stream's turn", *quantiles("pilot_proxy_queue_time"), unit="s"),
                panel(
                    "Making and writing a response",
                    (quantile(0.99, "pilot_xds_push_time", by="type"), "p99 {{type}}"),
                    (quantile(0.99, "pilot_xds_send_time"), "p99 until the socket took it"),
                    unit="s",
                ),
            ),
        ),
        (
            "Configuration",
            (
                panel(
                    "Services and rules",
                    ("max(pilot_services)", "services"),
                    ("max(pilot_virt_services)", "VirtualServices"),
                ),
                panel(
                    "Events",
                    (rate("pilot_k8s_reg_events", by="type, event"), "{{type}} {{event}}"),
                    (rate("pilot_k8s_cfg_events", by="type, event"), "{{type}} {{event}}"),
                    unit="ops",
                ),
                panel(
                    "Conflicts",
                    (f"max({_CONFLICT}inbound_listener)", "inbound listeners"),
                    (f"max({_CONFLICT}outbound_listener_tcp_over_current_tcp)", "outbound listeners"),
                    ("max(pilot_vservice_dup_domain)", "domains"),
                    ("max(pilot_duplicate_envoy_clusters)", "subsets"),
                ),
                panel(
                    "Endpoints",
                    ("max(pilot_eds_no_instances)", "ports without endpoints"),
                    ("max(pilot_endpoint_not_ready)", "not ready"),
                    ("max(endpoint_no_pod)", "without their pod"),
                    ("max(pilot_no_ip)", "sidecars without a service"),
                ),
                panel(
                    "Injection",
                    (rate("sidecar_injection_success_total"), "injected"),
                    (rate("sidecar_injection_failure_total"), "failed"),
                    (rate("sidecar_injection_skip_total"), "left alone"),
                    unit="ops",
                ),
                panel(
                    "Validation",
                    (rate("galley_validation_passed"), "passed"),
                    (rate("galley_validation_failed"), "failed"),
                    unit="ops",
                ),
            ),
        ),
        (
            "Certificates",
            (
                panel(
                    "CSRs",
                    (rate("citadel_server_csr_count"), "asked"),
                    (rate("citadel_server_success_cert_issuance_count"), "issued"),
                    (rate("citadel_server_authentication_failure_count"), "not authenticated"),
                    (rate("citadel_server_csr_sign_err_count"), "not signed"),
                    unit="ops",
                ),
                panel(
                    "Time left of our own",
                    ("min(citadel_server_root_cert_expiry_seconds)", "root"),
                    ("min(citadel_server_cert_chain_expiry_seconds)", "CA"),
                    ("min(pilot_serving_cert_expiry_seconds)", "servers"),
                    unit="s",
                    width=16,
                ),
            ),
        ),
        (
            "The process",
            (
                panel(
                    "CPU", ('rate(process_cpu_seconds_total{app="istiod"}[$__rate_interval])', "{{pod}}"), unit="cores"
                ),
                panel("Memory", ('process_resident_memory_bytes{app="istiod"}', "{{pod}}"), unit="bytes"),
                panel("Lag of the event loop", *quantiles("pilot_event_loop_lag_seconds"), unit="s"),
                panel(
                    "Open files",
                    ('process_open_fds{app="istiod"}', "{{pod}}"),
                    ('process_max_fds{app="istiod"}', "{{pod}} limit"),
                ),
                panel(
                    "Garbage collections",
                    (
                        "sum(rate(python_gc_collections_total[$__rate_interval])) by (generation)",
                        "generation {{generation}}",
                    ),
                    unit="ops",
                ),
                panel(
                    "Compiled resources",
                    ("sum(xds_cache_size)", "in memory"),
                    (rate("pilot_compiled_resources_total", by="type"), "made per second: {{type}}"),
                ),
                panel("Versions", ('sum(istio_build{component="pilot"}) by (tag)', "{{tag}}"), kind="stat"),
            ),
        ),
    ),
)
