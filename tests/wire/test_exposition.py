"""The text that Prometheus reads."""

from wire import exposition
from wire.exposition import Family, Sample


def test_counters_gauges_and_histograms_are_written_as_prometheus_reads_them() -> None:
    families = (
        exposition.of("a_total", "counter", "What it\ncounts.", 3),
        Family(name="b", kind="gauge", help="", samples=(Sample(value=1.5, labels={"x": 'a"b\\c\nd', "y": ""}),)),
        Family(
            name="c",
            kind="histogram",
            help="h",
            samples=(
                Sample(suffix="_bucket", labels={"le": "+Inf"}, value=2),
                Sample(suffix="_sum", value=float("nan")),
                Sample(suffix="_count", value=2),
            ),
        ),
        exposition.of("d", "gauge", "", float("inf")),
        exposition.of("e", "gauge", "", float("-inf")),
    )
    assert exposition.render(families) == (
        "# HELP a_total What it\\ncounts.\n# TYPE a_total counter\na_total 3\n"
        '# HELP b \n# TYPE b gauge\nb{x="a\\"b\\\\c\\nd",y=""} 1.5\n'
        '# HELP c h\n# TYPE c histogram\nc_bucket{le="+Inf"} 2\nc_sum NaN\nc_count 2\n'
        "# HELP d \n# TYPE d gauge\nd +Inf\n"
        "# HELP e \n# TYPE e gauge\ne -Inf\n"
    )
    assert exposition.render(()) == ""
