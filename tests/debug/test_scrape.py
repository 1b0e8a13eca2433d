"""What istiod's own metrics say after known actions of a real client (features row D20)."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from istiod.debug import counts, metrics
from tests.debug.plane import SHOP, Client, Plane, serving
from wire import names

RULE = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web, namespace: shop}
spec: {host: web, trafficPolicy: {connectionPool: {tcp: {connectTimeout: 7s}}}}
"""
WEB = "outbound|80||web.shop.svc.cluster.local"
EVERY = """
citadel_server_authentication_failure_count citadel_server_cert_chain_expiry_timestamp citadel_server_csr_count
citadel_server_csr_parsing_err_count citadel_server_id_extraction_err_count citadel_server_root_cert_expiry_seconds
citadel_server_root_cert_expiry_timestamp citadel_server_success_cert_issuance_count endpoint_no_pod istio_build
pilot_conflict_inbound_listener pilot_conflict_outbound_listener_http_over_current_tcp
pilot_conflict_outbound_listener_tcp_over_current_http pilot_conflict_outbound_listener_tcp_over_current_tcp
pilot_debounce_time_bucket pilot_duplicate_envoy_clusters pilot_eds_no_instances pilot_endpoint_not_ready
pilot_event_loop_lag_seconds_bucket pilot_inbound_updates pilot_info pilot_k8s_cfg_events pilot_k8s_reg_events
pilot_no_ip pilot_proxy_convergence_time_bucket pilot_proxy_queue_time_bucket pilot_push_stage_seconds_bucket
pilot_push_triggers pilot_pushcontext_init_seconds_bucket pilot_services pilot_serving_cert_expiry_seconds
pilot_stale_proxies pilot_staleness_seconds pilot_total_xds_internal_errors pilot_total_xds_rejects
pilot_virt_services pilot_vservice_dup_domain pilot_xds pilot_xds_cds_reject pilot_xds_config_size_bytes_bucket
pilot_xds_eds_reject pilot_xds_lds_reject pilot_xds_push_context_errors pilot_xds_push_time_bucket pilot_xds_pushes
pilot_xds_rds_reject pilot_xds_send_time_bucket pilot_xds_write_timeout process_cpu_seconds_total process_max_fds
process_open_fds process_resident_memory_bytes process_start_time_seconds process_virtual_memory_bytes
python_asyncio_tasks python_gc_collections_total python_info sidecar_injection_failure_total
sidecar_injection_requests_total sidecar_injection_skip_total sidecar_injection_success_total xds_cache_size
"""


async def test_metrics_follow_what_a_client_does(tmp_path: Path) -> None:
    async with serving(tmp_path) as plane, plane.client() as client:
        before = await plane.scrape()
        assert (before["pilot_services"], before["pilot_eds_no_instances"]) == (2, 2), "both ports of idle"
        assert (before["pilot_endpoint_not_ready"], before["endpoint_no_pod"]) == (1, 1)
        assert before["pilot_stale_proxies"] == before["pilot_staleness_seconds"] == 0
        await first(plane, client)
        written = time.monotonic()
        plane.write(SHOP + "---\n" + RULE)
        refused = await refuse(client)
        took = time.monotonic() - written
        await plane.reads("pilot_xds_cds_reject", 1)
        await plane.reads('pilot_total_xds_rejects{type="cds"}', refused)
        await stale(plane, took)
        accepting = asyncio.create_task(client.accept())
        plane.write(SHOP)
        for name in ("pilot_stale_proxies", "pilot_staleness_seconds", "pilot_xds_cds_reject"):
            await plane.reads(name, 0)
        families = {each.partition("{")[0] for each in await plane.scrape()}
        accepting.cancel()
    assert not set(EVERY.split()) - families


async def first(plane: Plane, client: Client) -> None:
    await client.ask(names.CLUSTER)
    response = await client.read()
    await plane.reads('pilot_xds{version="1.30.0"}', 1)
    await plane.reads('pilot_xds_pushes{type="cds"}', 1)
    await plane.reads("pilot_stale_proxies", 1)
    scraped = await plane.scrape()
    size = len(response.SerializeToString())
    assert scraped['pilot_xds_config_size_bytes_sum{type="cds"}'] == pytest.approx(size, rel=0.01)
    assert scraped["pilot_xds_send_time_count"] == scraped['pilot_push_stage_seconds_count{stage="encode"}'] == 1
    assert scraped["pilot_no_ip"] == 0, "the client's address serves web"
    assert scraped["pilot_staleness_seconds"] > 0
    await client.answer(response)
    await plane.reads("pilot_stale_proxies", 0)


async def refuse(client: Client) -> int:
    """Refuse all that holds WEB until it comes alone; how often that was."""
    refused, brought = 0, list[str]()
    while brought != [WEB]:
        response = await client.read()
        brought = [each.name for each in response.resources]
        refused += WEB in brought
        await client.answer(response, error="no such thing" if WEB in brought else "")
    return refused


async def stale(plane: Plane, took: float) -> None:
    """One change came, within so many seconds, and one proxy refuses it."""
    scraped = await plane.scrape()
    assert scraped['pilot_k8s_cfg_events{type="DestinationRule",event="add"}'] == 1
    assert scraped['pilot_push_triggers{type="config"}'] >= 1
    assert scraped["pilot_stale_proxies"] == 1, "what is refused is not had"
    assert scraped["pilot_staleness_seconds"] > 0
    assert 0 < scraped["pilot_debounce_time_sum"] < 20
    queued = scraped["pilot_proxy_queue_time_count"]
    assert queued == scraped["pilot_proxy_convergence_time_count"] == 2, "its first configuration, and the change"
    assert scraped['pilot_push_stage_seconds_count{stage="hand_over"}'] == 1
    assert scraped["pilot_proxy_convergence_time_sum"] < took + 1


async def test_no_client_makes_series(tmp_path: Path) -> None:
    """SEC78: what a client may name freely is no label, or one of a bounded set."""
    async with serving(tmp_path) as plane:
        known = {each.partition("{")[0] for each in await plane.scrape()}
        for number in range(40):
            hostile = f"v{number}" if number % 2 else f'1"}} x{number}\n'
            async with plane.client(version=hostile) as client:
                await client.ask(f"type.googleapis.com/made.up.T{number}")
                await client.ask(names.CLUSTER)
                response = await client.read()
                response.type_url = f"type.googleapis.com/made.up.T{number}"
                await client.answer(response, error="x")
                await plane.reads('pilot_total_xds_rejects{type="other"}', number + 1)
                scraped = await plane.scrape()
                versions = {each for each in scraped if each.startswith("pilot_xds{")}
                assert versions == (
                    {f'pilot_xds{{version="v{number}"}}'} if number % 2 else {'pilot_xds{version="unknown"}'}
                )
                assert not [each for each in scraped if "made" in each or f"T{number}" in each]
        assert {each.partition("{")[0] for each in scraped} >= known


@pytest.mark.parametrize("count", [500, pytest.param(1_000_000, marks=pytest.mark.long)])
def test_versions_that_proxies_claim_are_bounded(count: int) -> None:
    many = {f"1.{number}.0": 1 + (number == 7) for number in range(count)}
    text = metrics.text(metrics.Facts(proxies={**many, "x" * 100: 3, "": 2}), counts.Counts())
    lines = [line for line in text.splitlines() if line.startswith("pilot_xds{")]
    assert len(lines) == metrics.MOST_VERSIONS + 1
    assert 'pilot_xds{version="1.7.0"} 2' in lines
    assert 'pilot_xds{version="unknown"} 5' in lines
    assert sum(float(line.rpartition(" ")[2]) for line in lines) == count + 6
