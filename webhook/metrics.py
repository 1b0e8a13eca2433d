"""Prometheus annotations, sent to the agent, which answers for app and proxy together (features A11). Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping

from webhook import annotations as notes

TARGETS = "prometheus.istio.io/scrape-targets"
_SCRAPE, _PORT, _PATH = ("prometheus.io/scrape", "prometheus.io/port", "prometheus.io/path")


def rewrite(annotations: Mapping[str, str], agent_port: int) -> tuple[Mapping[str, str], str]:
    """(annotations to set, ISTIO_PROMETHEUS_ANNOTATIONS for the agent or ""). Nothing where the user said no."""
    if annotations.get(notes.MERGE_METRICS) == "false" or annotations.get(_SCRAPE, "true") != "true":
        return {}, ""
    ours = {_SCRAPE: "true", _PORT: str(agent_port), _PATH: "/stats/prometheus"}
    if _SCRAPE not in annotations or annotations.get(_PORT) == str(agent_port):
        return ours, ""
    app: dict[str, object] = {"scrape": "true"}
    app |= {"path": annotations.get(_PATH, ""), "port": annotations.get(_PORT, "")}
    if targets := _targets(annotations.get(TARGETS, "")):
        app |= {**targets[0], "targets": targets}
    return ours, json.dumps(app, separators=(",", ":"))


def _targets(text: str) -> list[dict[str, str]]:
    """The app's endpoints, written PORT:PATH,PORT:PATH."""
    pairs = (each.strip().partition(":") for each in text.split(",") if each.strip())
    return [{"port": port, "path": path or "/metrics"} for port, _, path in pairs]
