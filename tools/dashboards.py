"""Write the Grafana dashboards of the chart istiod and of samples/addons, from the panels that stand here.

``python -m tools.dashboards FOLDER`` writes them below another folder than the repository's. Queries name only what
istiod, its agents and their Envoys expose: tests/charts/test_dashboards.py holds each name against real scrapes.
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from tools import traffic_dashboards as traffic
from tools.control_plane_dashboard import CONTROL_PLANE
from tools.panels import Dashboard, Panel, Variable

ROOT = Path(__file__).resolve().parent.parent
FOLDER = "charts/istiod/files/dashboards"
ADDON = "samples/addons/grafana-dashboards.yaml"
_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_WIDTH: Final = 24
_HEIGHT: Final = 8

ALL: Final = (traffic.MESH, traffic.SERVICE, traffic.WORKLOAD, traffic.PERFORMANCE, CONTROL_PLANE)


def rendered(dashboard: Dashboard) -> str:
    """The dashboard as Grafana's JSON."""
    made = {
        "uid": f"istiod-{dashboard.name}",
        "title": f"Istio: {dashboard.title}",
        "tags": ["istio"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-30m", "to": "now"},
        "templating": {"list": [_source(), *map(_variable, dashboard.variables)]},
        "panels": list(_panels(dashboard.rows)),
    }
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def _source() -> dict[str, Any]:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}


def _variable(said: Variable) -> dict[str, Any]:
    return {
        "name": said.name,
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": said.query, "refId": said.name},
        "regex": said.pattern,
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "sort": 1,
    }


def _panels(rows: Sequence[tuple[str, tuple[Panel, ...]]]) -> Iterator[dict[str, Any]]:
    number, top = 1, 0
    for title, panels in rows:
        place = {"x": 0, "y": top, "w": _WIDTH, "h": 1}
        yield {"id": number, "type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": []}
        number, top, left = number + 1, top + 1, 0
        for each in panels:
            if left + each.width > _WIDTH:
                left, top = 0, top + _HEIGHT
            yield _drawn(each, number, {"x": left, "y": top, "w": each.width, "h": _HEIGHT})
            number, left = number + 1, left + each.width
        top += _HEIGHT


def _drawn(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    targets = [
        {"refId": chr(ord("A") + count), "datasource": _SOURCE, "expr": query, "legendFormat": legend}
        for count, (query, legend) in enumerate(panel.queries)
    ]
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": targets,
    }


def addon() -> str:
    """All of them as the ConfigMap that samples/addons/grafana.yaml mounts."""
    labels = "{app.kubernetes.io/name: grafana}"
    head = (
        "# Written by make generate: the dashboards of charts/istiod.\napiVersion: v1\nkind: ConfigMap\n"
        f"metadata: {{name: istio-grafana-dashboards, namespace: istio-system, labels: {labels}}}\ndata:\n"
    )
    return head + "".join(f"  {each.name}.json: |\n{textwrap.indent(rendered(each), '    ')}" for each in ALL)


def main() -> int:
    """Write them below the folder that is given, or the repository."""
    base = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT)
    folder, file = base / FOLDER, base / ADDON
    folder.mkdir(parents=True, exist_ok=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    for each in ALL:
        (folder / f"{each.name}.json").write_text(rendered(each))
    file.write_text(addon())
    return 0


if __name__ == "__main__":
    sys.exit(main())
