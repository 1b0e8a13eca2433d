"""Prometheus annotations, sent to the agent, which answers for app and proxy together (features A11). Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from webhook import annotations as notes

TARGETS = "prometheus.istio.io/scrape-targets"
_OURS = ("prometheus.io/scrape", "prometheus.io/port", "prometheus.io/path")


def rewrite(annotations: Mapping[str, str], agent_port: int) -> tuple[Mapping[str, str | None], str]:
    """(annotations to set, or to remove, ISTIO_PROMETHEUS_ANNOTATIONS for the agent or "").

    Prometheus takes prometheus.io/port, prometheus.io.port and prometheus-io/port for one, so all of them are replaced.
    Nothing happens where the app does not want to be asked.
    """
    said = {_label(name): value for name, value in annotations.items()}
    scrape, port, path = (said.get(_label(name), "") for name in _OURS)
    if scrape in notes.FALSE or port == str(agent_port):  # or the pod has been through this, or knows better
        return {}, ""
    theirs: dict[str, str | None] = {
        name: None for name in annotations if _label(name) in {_label(each) for each in _OURS}
    }
    ours: dict[str, str | None] = {
        **theirs,
        **dict(zip(_OURS, ("true", str(agent_port), "/stats/prometheus"), strict=True)),
    }
    targets = _targets(annotations.get(TARGETS, ""))
    if not (theirs or targets):
        return ours, ""
    app: dict[str, object] = {"scrape": scrape, "path": path, "port": port}
    if targets:
        app |= {**targets[0], "targets": targets}
    return {**ours, TARGETS: None}, json.dumps(app, separators=(",", ":"))


def _label(name: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_]", "_", name)


def _targets(text: str) -> list[dict[str, str]]:
    """The app's endpoints, written PORT:PATH,PORT:PATH."""
    pairs = (each.strip().partition(":") for each in text.split(",") if each.strip())
    return [{"port": port, "path": path or "/metrics"} for port, _, path in pairs]
