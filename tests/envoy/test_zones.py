"""Zone-aware shares: as Envoy's zone-aware routing has them, by the weights that a proxy gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from envoy.config.endpoint.v3 import endpoint_pb2
from hypothesis import given
from hypothesis import strategies as st

from istiod.envoy import endpoint
from istiod.mesh.endpoint import View
from istiod.mesh.policy import LocalityLb
from tests.envoy import made
from wire.node import Locality

ALWAYS = LocalityLb(zones_from=1)


def shares(
    there: Mapping[str, int], here: Mapping[str, int], setting: LocalityLb = ALWAYS, mine: str = "a"
) -> dict[str, float]:
    """Zone -> the weight that it has for a client in zone ``mine``, in whole percents."""
    places = [Locality(region="r1", zone=zone) for zone, count in sorted(there.items()) for _ in range(count)]
    endpoints = [made.endpoint(f"10.0.0.{n}", locality=place) for n, place in enumerate(places, 1)]
    view = replace(made.VIEW, locality=Locality(region="r1", zone=mine), peers=tuple(sorted(here.items())))
    return {group.locality.zone: group.load_balancing_weight.value for group in _groups(endpoints, setting, view)}


def _groups(endpoints: object, setting: LocalityLb, view: View) -> object:
    query = made.query(locality_lb=setting)
    found = made.parsed(endpoint.compile(query, endpoints, view), endpoint_pb2.ClusterLoadAssignment)
    return found.endpoints


@pytest.mark.parametrize(
    ("there", "here", "expected"),
    [
        ({"a": 2, "b": 2}, {"a": 1, "b": 1}, {"a": 1_000_000, "b": 0}),
        ({"a": 3, "b": 1}, {"a": 1, "b": 1}, {"a": 1_000_000, "b": 0}),
        ({"a": 1, "b": 3}, {"a": 1, "b": 1}, {"a": 500_000, "b": 500_000}),
        ({"a": 2, "b": 2}, {"a": 2}, {"a": 500_000, "b": 500_000}),
        ({"a": 2, "b": 4, "c": 4}, {"a": 4, "b": 4, "c": 2}, {"a": 500_000, "b": 0, "c": 500_000}),
    ],
    ids=["even", "room at home", "too little at home", "all clients here", "only where something is left over"],
)
def test_a_zone_keeps_its_calls_as_far_as_it_has_endpoints(
    there: dict[str, int], here: dict[str, int], expected: dict[str, int]
) -> None:
    assert shares(there, here) == expected


@pytest.mark.parametrize(
    ("there", "here", "setting"),
    [
        ({"a": 2, "b": 3}, {"a": 1, "b": 1}, LocalityLb(zones_from=6)),
        ({"b": 2, "c": 3}, {"a": 1, "b": 1}, ALWAYS),
        ({"a": 2, "b": 3}, {"b": 1}, ALWAYS),
        ({"a": 2, "b": 3}, {}, ALWAYS),
    ],
    ids=["few", "nobody here", "no peer here", "no service of its own"],
)
def test_else_endpoints_are_alike(there: dict[str, int], here: dict[str, int], setting: LocalityLb) -> None:
    assert shares(there, here, setting) == there


COUNTS = st.dictionaries(st.sampled_from("abcd"), st.integers(1, 9), min_size=2)


@given(COUNTS, COUNTS)
def test_every_endpoint_gets_as_much_as_any_other(there: dict[str, int], here: dict[str, int]) -> None:
    """All clients together, where they all are in zones that have endpoints."""
    here = {zone: count for zone, count in here.items() if zone in there}
    got = dict.fromkeys(there, 0.0)
    for mine, count in here.items():
        weights = shares(there, here, mine=mine)
        whole = sum(weights.values())
        for zone, weight in weights.items():
            got[zone] += count * weight / whole
    fair = sum(here.values()) / sum(there.values())
    assert all(abs(got[zone] / count - fair) < 0.001 for zone, count in there.items())


def test_regions_come_one_after_the_other() -> None:
    places = (("r1", "a"), ("r1", "b"), ("r2", "a"), ("r3", "a"))
    endpoints = [
        made.endpoint(f"10.0.0.{n}", locality=Locality(region=region, zone=zone))
        for n, (region, zone) in enumerate(places, 1)
    ]
    view = replace(made.VIEW, locality=Locality(region="r1", zone="a"), peers=(("a", 1), ("b", 1)))
    setting = LocalityLb(zones_from=1, failover=(("r1", "r3"),))
    found = [(g.locality.region, g.locality.zone, g.priority) for g in _groups(endpoints, setting, view)]
    assert found == [("r1", "a", 0), ("r1", "b", 0), ("r2", "a", 2), ("r3", "a", 1)]
