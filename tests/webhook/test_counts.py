"""What the webhooks count while they answer, as a dashboard reads it (features row D20)."""

from __future__ import annotations

from typing import Any

from tests.webhook.reviews import CONFIG, pod, review, running
from webhook import server
from webhook.counts import Counts
from webhook.settings import InjectionConfig
from wire import exposition

RULE = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "VirtualService",
    "metadata": {"name": "web", "namespace": "demo"},
    "spec": {"hosts": ["web"], "http": [{"route": [{"destination": {"host": "web"}}]}]},
}
LARGE = {"note": "x" * 200_000}


def counted(counts: Counts) -> dict[str, float]:
    """Each sample that has counted something, as it is written."""
    lines = (line for line in exposition.render(counts.families()).splitlines() if not line.startswith("#"))
    found = {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}
    return {name: value for name, value in found.items() if value and "_bucket" not in name and "_sum" not in name}


async def send(counts: Counts, path: str, *asked: Any, config: InjectionConfig | None = CONFIG) -> dict[str, float]:
    sources = server.Sources(ready=lambda: True, config=lambda: config, counts=counts)
    async with running(sources) as (client, url, _):
        for each in asked:
            async with client.post(f"{url}/{path}", json=each) as answer:
                await answer.read()
    return counted(counts)


async def test_pods_are_injected_skipped_or_fail() -> None:
    bad = pod({"sidecar.istio.io/proxyCPU": "much"})
    large = (review(pod(LARGE)), review({**pod(LARGE), "spec": {"hostNetwork": True}}))
    asked = (review(pod()), review(bad), review(pod(), operation="UPDATE"), review(pod(), namespace="kube-system"))
    assert await send(Counts(), "inject/net/blue", *asked, *large, {"kind": "x"}) == {
        "sidecar_injection_requests_total": 7,
        "sidecar_injection_success_total": 2,
        "sidecar_injection_failure_total": 2,
        "sidecar_injection_skip_total": 3,
        "sidecar_injection_time_seconds_count": 7,
    }


async def test_without_settings_each_request_fails() -> None:
    assert await send(Counts(), "inject", review(pod()), review(pod(LARGE)), config=None) == {
        "sidecar_injection_requests_total": 2,
        "sidecar_injection_failure_total": 2,
        "sidecar_injection_time_seconds_count": 2,
    }


async def test_objects_pass_or_fail_by_kind_and_reason() -> None:
    wrong = {**RULE, "spec": {"hosts": ["web"], "http": [{"route": [{"destination": {"host": 1}}]}]}}
    large = {**wrong, "metadata": {**RULE["metadata"], "annotations": LARGE}}
    foreign = {**RULE, "apiVersion": "example.org/v1"}
    asked = (review(RULE), review({**RULE, "apiVersion": "networking.istio.io/v1alpha3"}), review(wrong))
    asked += (review(large), review(foreign), review(None, operation="DELETE", oldObject=RULE))
    asked += (review(RULE, object={"kind": "VirtualService"}),)
    names = 'group="networking.istio.io",version="v1",resource="virtualservices"'
    assert await send(Counts(), "validate", *asked, {"kind": "x"}) == {
        f"galley_validation_passed{{{names}}}": 1,
        f"galley_validation_passed{{{names.replace('v1', 'v1alpha3', 1)}}}": 1,
        f'galley_validation_failed{{{names},reason="invalid_resource"}}': 2,
        f'galley_validation_failed{{{names},reason="unsupported_operation"}}': 1,
        f'galley_validation_failed{{{names},reason="yaml_decode_error"}}': 1,
        'galley_validation_http_error{status="400"}': 1,
    }


async def test_whoever_invents_kinds_and_versions_makes_no_series_of_them() -> None:
    invented = [
        {**RULE, "kind": f"Kind{number}", "apiVersion": f"networking.istio.io/v{number}"} for number in range(9)
    ]
    versions = [{**RULE, "apiVersion": f"networking.istio.io/v{number}"} for number in range(2, 9)]
    found = await send(Counts(), "validate", *map(review, (*invented, *versions)))
    labels = 'group="networking.istio.io",version="unknown",resource='
    assert found == {
        f'galley_validation_passed{{{labels}"unknown"}}': 9,
        f'galley_validation_passed{{{labels}"virtualservices"}}': 7,
    }


async def test_a_fault_of_ours_is_a_failure_too() -> None:
    def broken(*_: Any) -> Any:
        raise KeyError("secret")

    counts = Counts()
    sources = server.Sources(ready=lambda: True, config=broken, findings=broken, counts=counts)
    async with running(sources) as (client, url, _):
        for path, item in (("inject", pod()), ("validate", RULE)):
            async with client.post(f"{url}/{path}", json=review(item)) as answer:
                assert answer.status == 500
    found = counted(counts)
    assert found["sidecar_injection_failure_total"] == 1
    assert found['galley_validation_http_error{status="500"}'] == 1
