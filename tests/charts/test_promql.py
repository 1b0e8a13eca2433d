"""Queries of dashboards and alerts, read by Prometheus' own parser; tests/story/test_metrics.py has them evaluated."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from tests.charts import prometheus
from tests.charts.prometheus import Scrape
from tests.charts.test_dashboards import queries

pytestmark = [pytest.mark.long, pytest.mark.timeout(900), prometheus.NEEDS_GO]


def test_prometheus_parses_every_query(tmp_path: Path) -> None:
    program = prometheus.built(tmp_path)
    said = [query for _, query in queries() if not prometheus.of_variable(query)]
    given = [prometheus.replaced(query, {}) for query in said]
    assert len(given) > 100
    assert prometheus.parsed(program, given) == (0, ["parsed"] * len(given))
    assert prometheus.parsed(program, [*given[:1], "sum(rate(x)"])[0] == 1


def test_prometheus_evaluates_what_was_scraped(tmp_path: Path) -> None:
    """Two scrapes of a counter and a histogram, and a target whose labels win."""
    text = 'a_total{{pod="mine"}} {}\n# TYPE b histogram\nb_bucket{{le="1"}} {}\nb_bucket{{le="+Inf"}} {}\n'
    scrapes = [
        Scrape(moment=moment, labels={"pod": "web-1"}, text=text.format(count, count, count))
        for moment, count in ((1_000.0, 0), (1_010.0, 100))
    ]
    asked = ["rate(a_total[20s])", "histogram_quantile(0.5, rate(b_bucket[20s]))", "absent_total", "a_total * NaN"]
    rate, half, nothing, odd = prometheus.evaluated(prometheus.built(tmp_path), scrapes, asked)
    assert [(one.labels, one.value) for one in rate] == [({"pod": "web-1", "exported_pod": "mine"}, 5.0)]
    assert [one.value for one in half] == [0.5]
    assert nothing == []
    assert [math.isnan(one.value) for one in odd] == [True]
