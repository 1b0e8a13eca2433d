"""Which queries of dashboards and alerts find a number in what a running mesh says of itself: by Prometheus' engine."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.charts import prometheus, stock_queries
from tests.charts.prometheus import Scrape, Series
from tests.charts.test_dashboards import queries

SILENT: Final = {
    "pilot_total_xds_rejects": "no proxy refuses anything",
    "citadel_server_csr_sign_err_count": "all that asked for a certificate have one",
    "galley_validation": "there is no API server that asks whether objects are valid",
}
"""A part of each query that finds nothing in a healthy mesh without a cluster -> why."""
CHANGE: Final = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: changing, namespace: outside}}
spec: {{hosts: [changing.example], resolution: DNS, ports: [{{number: {port}, name: http, protocol: HTTP}}]}}
"""
"""What makes istiod push."""
_BOUND: Final = re.compile(r" [<>] [\d.]+")


@dataclass(slots=True, kw_only=True)
class Asker:
    """What was scraped so far, and the program that is asked."""

    program: Path
    held: list[Scrape] = field(default_factory=list)

    def add(self, moment: float, text: str, **labels: str) -> None:
        """Take what a target said."""
        self.held.append(Scrape(moment=moment, labels=labels, text=text))

    def silent(self) -> list[str]:
        """The queries that find no number."""
        asked = [*self._ours(), *stock_queries.kiali(), *stock_queries.grafana(), *stock_queries.istioctl()]
        answers = self._ask(asked)
        return [
            query for query, found in zip(asked, answers, strict=True) if all(math.isnan(one.value) for one in found)
        ]

    def _ask(self, asked: list[str]) -> list[list[Series]]:
        return prometheus.evaluated(self.program, self.held, asked)

    def _ours(self) -> Iterator[str]:
        """Those of our dashboards with all values of their variables; of an alert what it compares."""
        values: dict[str, dict[str, str]] = {}
        for where, query in queries():
            file, _, name = where.partition(" ")
            known = values.setdefault(file, {})
            if variable := prometheus.of_variable(query):
                (found,) = self._ask([prometheus.replaced(variable, known)])
                known[name] = prometheus.every(found)
            elif file == "alerts.yaml":
                yield _BOUND.sub("", query)
            else:
                yield prometheus.replaced(query, known)


def unexpected(silent: list[str]) -> list[str]:
    """Queries that find nothing without a reason."""
    return [query for query in silent if not any(part in query for part in SILENT)]
