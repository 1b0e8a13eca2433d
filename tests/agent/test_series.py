"""Istio's metrics as the agent writes them: names, labels, and sums where labels are left out."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.series import Series
from wire import labels, telemetry
from wire.labels import Reporter

OWN = {part: f"own-{part}" for part in telemetry.PARTS}


def written(*blocks: str) -> str:
    """All that comes of these."""
    series = Series(OWN)
    return b"".join([*(series.lines(block.encode()) for block in blocks), series.rest()]).decode()


def sample(name: str, value: str, *left_out: str, peer: str = "a;b;c;d;e", more: str = "", bucket: str = "") -> str:
    """A line of Envoy's."""
    said = f'{labels.REPORTER}="{labels.reporter(Reporter.SOURCE, left_out)}",{labels.PEER}="{peer}"{more}'
    return f"envoy_istio_{name}{{{said}{bucket}}} {value}\n"


def test_a_series_gets_its_name_and_labels_and_a_bucket_its_bound() -> None:
    bound = ',le="0.5"'
    text = "# TYPE envoy_istio_x histogram\n" + sample("x_bucket", "1", bucket=bound) + sample("x_sum", "1.5")
    head, first, second = written(text).splitlines()
    assert head == "# TYPE istio_x histogram"
    assert first.startswith('istio_x_bucket{reporter="source",source_workload="own-workload",')
    assert first.endswith(',le="0.5"} 1')
    assert 'destination_workload="a"' in first
    assert second == first.replace("_bucket{", "_sum{").replace(bound, "").removesuffix("1") + "1.5"
    assert labels.REPORTER not in first


def test_what_has_no_labels_of_ours_is_passed_on() -> None:
    text = 'envoy_istio_a{b="envoy_istio_"} 1\nenvoy_server_live 1\n\n# a comment\n'
    assert written(text) == text.replace("envoy_istio_a", "istio_a")
    broken = f'envoy_istio_a{{{labels.REPORTER}="source" 1\n'
    assert written(broken) == broken.replace("envoy_istio_a", "istio_a")


def test_values_are_escaped_as_they_were() -> None:
    assert ',x="a\\"}\\\\\\n{b"} 7\n' in written(sample("a", "7", more=',x="a\\"}\\\\\\n{b"'))


def test_series_that_are_one_without_a_label_are_summed_in_their_family() -> None:
    out = "destination_workload"
    text = (
        "# TYPE envoy_istio_a counter\n"
        + sample("a", "1", out, peer="x;b;c;d;e")
        + sample("a", "2", out, peer="y;b;c;d;e")
        + sample("a", "4")
        + "# TYPE envoy_istio_b histogram\n"
        + sample("b_bucket", "1", out, peer="x;b;c;d;e", bucket=',le="+Inf"')
        + sample("b_bucket", "8", out, peer="y;b;c;d;e", bucket=',le="+Inf"')
        + sample("b_sum", "0.5", out)
    )
    lines = written(text).splitlines()
    values = [(line.partition("{")[0], line.rpartition(" ")[2]) for line in lines]
    assert values == [
        ("# TYPE istio_a counter", "counter"),
        ("istio_a", "4"),
        ("istio_a", "3"),
        ("# TYPE istio_b histogram", "histogram"),
        ("istio_b_bucket", "9"),
        ("istio_b_sum", "0.5"),
    ]
    assert all(f"{out}=" not in line for line in (lines[2], lines[4], lines[5]))
    assert lines[4].endswith(',le="+Inf"} 9')


@pytest.mark.parametrize("left_out", [(), ("source_app",)])
@given(st.lists(st.integers(0, 12)))
def test_it_does_not_depend_on_the_blocks(left_out: tuple[str, ...], cuts: list[int]) -> None:
    lines = [sample("a", str(n), *left_out, peer=f"{n % 3};b;c;d;e") for n in range(10)]
    lines[5:5] = ["# HELP envoy_istio_b x\n", "# TYPE envoy_istio_b counter\n"]
    edges = sorted({0, len(lines), *(cut for cut in cuts if cut < len(lines))})
    blocks = ["".join(lines[start:end]) for start, end in itertools.pairwise(edges)]
    assert written(*blocks) == written("".join(lines))
