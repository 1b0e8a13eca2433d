from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crds.checks.patterns import Patterns, repeated
from crds.parse import parse

HOSTS = st.lists(st.text(alphabet="*.aB", max_size=5) | st.just("a" * 300), max_size=12)


def overlap(first: str, second: str) -> bool:
    """Whether some host matches both: the definition."""
    one, two = first.lower(), second.lower()
    if max(len(one), len(two)) > 255:
        return False
    if one.startswith("*") and two.startswith("*"):
        return one[1:].endswith(two[1:]) or two[1:].endswith(one[1:])
    if one.startswith("*"):
        return two.endswith(one[1:])
    return one.endswith(two[1:]) if two.startswith("*") else one == two


@given(HOSTS)
def test_overlaps_are_those_of_each_pair(hosts: list[str]) -> None:
    pairs = [(i, [j for j in range(i) if overlap(hosts[j], hosts[i])]) for i in range(len(hosts))]
    assert list(Patterns(hosts).overlaps()) == [(i, earlier[0]) for i, earlier in pairs if earlier]


@given(HOSTS, st.text(alphabet="*.aB", max_size=6))
def test_a_name_is_covered_by_an_equal_one_or_by_the_end_of_it(hosts: list[str], name: str) -> None:
    text = name.lower()
    short = [host.lower() for host in hosts if len(host) <= 255]
    ends = [host[1:] for host in short if host.startswith("*")]
    assert Patterns(hosts).covers(name) == (text in short or any(text.removeprefix("*").endswith(e) for e in ends))


@given(st.lists(st.integers(0, 5)))
def test_an_item_is_repeated_where_it_stood_before(items: list[int]) -> None:
    assert list(repeated(items)) == [(i, item) for i, item in enumerate(items) if item in items[:i]]


PORT = {"name": "http", "number": 80, "protocol": "HTTP"}
TO = {"destination": {"host": "web"}}
LARGE: dict[str, tuple[str, Callable[[int], dict[str, Any]]]] = {
    "hosts": ("VirtualService", lambda n: {"hosts": [f"h{i}.a" for i in range(n)], "http": [{"route": [TO]}]}),
    "wildcards": (
        "VirtualService",
        lambda n: {"hosts": [f"*{'.a' * (i % 120 + 1)}" for i in range(n)], "http": [{"route": [TO]}]},
    ),
    "sni hosts": (
        "VirtualService",
        lambda n: {
            "hosts": [f"h{i}.a" for i in range(n)],
            "tls": [{"match": [{"sniHosts": [f"h{i}.a" for i in range(n)]}], "route": [TO]}],
        },
    ),
    "subsets": ("DestinationRule", lambda n: {"host": "web", "subsets": [{"name": f"v{i}"} for i in range(n)]}),
    "ports": (
        "ServiceEntry",
        lambda n: {
            "hosts": ["a.b"],
            "resolution": "STATIC",
            "ports": [{"name": f"p{i}", "number": i + 1, "protocol": "TCP"} for i in range(n)],
            "endpoints": [{"address": "10.0.0.1", "ports": {f"p{i}": 80}} for i in range(n)],
        },
    ),
    "wild hosts": (
        "ServiceEntry",
        lambda n: {"hosts": [f"*.h{i}.a" for i in range(n)], "ports": [PORT], "resolution": "DYNAMIC_DNS"},
    ),
    "egress": ("Sidecar", lambda n: {"egress": [{"hosts": [f"a/h{i}.b" for i in range(n)]}]}),
    "ciphers": (
        "Gateway",
        lambda n: {
            "servers": [
                {
                    "port": {**PORT, "protocol": "HTTPS"},
                    "hosts": ["a.b"],
                    "tls": {"mode": "SIMPLE", "credentialName": "c", "cipherSuites": [f"c{i}" for i in range(n)]},
                }
            ]
        },
    ),
}


@pytest.mark.parametrize("case", LARGE)
def test_what_an_object_costs_does_not_grow_with_the_square_of_its_size(case: str) -> None:
    kind, make = LARGE[case]

    def cost(size: int) -> float:
        metadata = {"name": "large", "namespace": "shop"}
        item = {"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": metadata, "spec": make(size)}
        began = time.process_time()
        parse(item)
        return time.process_time() - began

    cost(10)
    assert cost(40_000) < 40 * max(0.02, cost(4_000))  # with the square it would be a hundred times as much
