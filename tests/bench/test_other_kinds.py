"""What the cost of asking Envoy about other kinds is measured with: objects that change what Envoy takes."""

from __future__ import annotations

import re

import pytest

from bench import other_kinds
from bench.world import Size


@pytest.mark.envoy
def test_each_kind_changes_something_that_envoy_takes(capsys: pytest.CaptureFixture[str]) -> None:
    other_kinds.run(Size(services=3, endpoints=1, proxies=3))
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["VirtualService", "VirtualService", "DestinationRule"]
    for line in lines:
        assert int(re.findall(r"\((\d+) differ\)", line)[0]) > 0
        assert line.endswith(" s ")
