"""How long connections to a service may be idle, where its rule speaks of TCP, of HTTP or of both."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.envoy import made
from tests.envoy.test_cluster import options, pooled


@pytest.mark.parametrize(("times", "idle"), [({"tcp": 7}, "7s"), ({"http": 9}, "9s"), ({"tcp": 7, "http": 9}, "9s")])
def test_a_time_for_tcp_holds_for_http_that_has_none_of_its_own(times: dict[str, int], idle: str) -> None:
    said = {f"{kind}_idle_timeout": timedelta(seconds=number) for kind, number in times.items()}
    assert options(made.cluster(policy=pooled(**said)))["common_http_protocol_options"] == {"idle_timeout": idle}
