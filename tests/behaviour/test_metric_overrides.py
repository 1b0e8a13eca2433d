"""Metrics of real calls, scraped from real Envoys, as Telemetry changes them (Q4)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from agent.series import Series
from tests.behaviour import rig as rigs
from tests.behaviour.log_services import LogService
from tests.behaviour.test_access_logs import Logged
from tests.waiting import until

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module")]
OVERRIDES = """
default:
  metrics:
  - overrides:
    - match: {metric: REQUEST_SIZE, mode: CLIENT}
      disabled: true
    - match: {metric: REQUEST_COUNT, mode: CLIENT}
      tagOverrides:
        verb: {value: request.method}
        who: {value: "request.headers['x-who']"}
        both: {value: "request.method + 'x'"}
        code: {value: "string(response.code % 100)"}
        by-hyphen: {value: "'h'"}
        lost: {value: "request.headers['x-none']"}
        response_flags: {operation: REMOVE}
        destination_app: {value: "'mine'"}
        destination_workload: {operation: REMOVE}
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Logged]:
    async with rigs.running(Path(tmp_path_factory.mktemp("rig"))) as rig:
        yield Logged(rig, LogService(), Path(tmp_path_factory.mktemp("none")))


async def scraped(mesh: Logged, envoy: str, host: str) -> dict[str, dict[str, str]]:
    """The labels of all of Istio's metrics about a host, by name, as an agent writes them."""
    text = await mesh.rig.envoys[envoy].admin("/stats/prometheus?filter=istio")
    series = Series({})
    found = {}
    for line in (series.lines(text.encode()) + series.rest()).decode().splitlines():
        sample = re.match(r"istio_(\w+?)(?:_bucket|_sum|_count)?\{(.*)\} ", line)
        labels = dict(re.findall(r'(\w+)="([^"]*)"', sample[2])) if sample else {}
        if sample and labels.get("destination_service") == host:
            found[sample[1]] = labels
    return found


async def test_metrics_are_left_out_and_labels_changed_on_one_side(mesh: Logged) -> None:
    await mesh.use("{}", OVERRIDES)
    await mesh.call("/x", headers={"x-who": "me"})

    async def counted() -> bool:
        return "response_bytes" in await scraped(mesh, "client", mesh.host)

    await until(counted, "the client counts")
    client = await scraped(mesh, "client", mesh.host)
    assert client.keys() == {"requests_total", "request_duration_milliseconds", "response_bytes"}
    labels = client["requests_total"]
    assert {
        name: labels.get(name) for name in ("verb", "who", "both", "code", "by_hyphen", "lost", "response_flags")
    } == {
        "verb": "GET",
        "who": "me",
        "both": "unknown",  # Envoy joins no texts
        "code": "0",
        "by_hyphen": "h",
        "lost": "unknown",
        "response_flags": None,
    }
    assert (labels["destination_app"], labels["reporter"]) == ("mine", "source")
    assert "destination_workload" not in labels
    assert "response_flags" in client["response_bytes"]


async def test_a_workload_can_have_no_metrics(mesh: Logged) -> None:
    await mesh.use("{}", "istio-system: {metrics: [{overrides: [{disabled: true, match: {mode: CLIENT}}]}]}")
    await mesh.call("/x")
    await mesh.use("{}")
    await mesh.call("/x")

    async def counted() -> bool:
        return bool(await scraped(mesh, "client", mesh.host))

    await until(counted, "the client counts again")
    earlier = f"next-{int(mesh.host.removeprefix('next-').partition('.')[0]) - 1}.example"
    assert await scraped(mesh, "client", earlier) == {}
