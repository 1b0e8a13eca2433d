"""What the changes promise: each leaves a shop that works, whatever the seed."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.story import changes, echo_changes
from tests.story.changes import Change, Raw


def objects(*texts: str) -> list[Raw]:
    """The documents, which are written as JSON."""
    return [json.loads(each) for text in texts if text for each in text.split("\n---\n")]


class State:
    """What a user's cluster holds after some changes, read from their YAML alone."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        self.replicas: dict[str, int] = {}

    def take(self, change: Change) -> None:
        self.files |= change.files
        for each in objects(change.workloads):
            if each["kind"] == "Deployment" and each["metadata"]["labels"]["app"] == "hello":
                self.replicas[each["metadata"]["labels"]["version"]] = each["spec"]["replicas"]

    def of(self, kind: str) -> list[Raw]:
        return [each for each in objects(*self.files.values()) if each["kind"] == kind]

    @property
    def subsets(self) -> dict[str, str]:
        (rule,) = self.of("DestinationRule")
        return {subset["name"]: subset["labels"]["version"] for subset in rule["spec"]["subsets"]}

    @property
    def named(self) -> set[str]:
        routes = [r for v in self.of("VirtualService") for rule in v["spec"]["http"] for r in rule["route"]]
        return {route["destination"]["subset"] for route in routes if "subset" in route["destination"]}


@given(st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_rules_name_only_subsets_that_are_there_and_have_pods(seed: int) -> None:
    state = State()
    for change in itertools.chain([changes.start()], changes.changes(seed, 60)):
        state.take(change)
        assert state.named <= set(state.subsets), change.name
        assert all(state.replicas[state.subsets[name]] for name in state.named), change.name
        assert sum(state.replicas.values()), change.name


@given(st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_weights_sum_to_100(seed: int) -> None:
    state = State()
    for change in changes.changes(seed, 30):
        state.take(change)
        for service in state.of("VirtualService"):
            for rule in service["spec"]["http"]:
                weights = [route["weight"] for route in rule["route"] if "weight" in route]
                assert not weights or sum(weights) == 100


def test_a_seed_always_gives_the_same_changes_and_they_cover_every_kind() -> None:
    assert list(changes.changes(5, 40)) == list(changes.changes(5, 40))
    names = {change.name.split(" ")[0] for seed in range(5) for change in changes.changes(seed, 100)}
    assert {
        "weights",
        "gateway",
        "header",
        "rule",
        "no",
        "policy",
        "add",
        "remove",
        "scale",
        "restart",
        "mTLS",
    } <= names


@pytest.mark.parametrize("word", ["come at once", "go at once"])
def test_rules_and_their_subsets_come_and_go_together(word: str) -> None:
    assert any(word in change.name for change in changes.changes(3, 50))


@given(st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_ports_of_echo_are_only_declared_as_what_their_clients_speak(seed: int) -> None:
    for change in itertools.chain([echo_changes.start()], echo_changes.only(seed, 60)):
        for each in objects(change.workloads):
            if each["kind"] == "Service" and each["metadata"]["name"] == "echo":
                ports = {port["port"]: port for port in each["spec"]["ports"]}
                assert ports.keys() >= {7001, 7002, 7003, 7004}
                assert not ports[7003]["name"].startswith("http-")
                assert ports[7004].get("appProtocol", ports[7004]["name"]).partition("-")[0] in {
                    "tcp", "any", "redis", "mongo",
                }  # fmt: skip


@given(st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_rules_of_services_that_go_go_with_them(seed: int) -> None:
    state, services = State(), {"echo"}
    for change in itertools.chain([echo_changes.start()], echo_changes.only(seed, 80)):
        state.take(change)
        services |= {each["metadata"]["name"] for each in objects(change.workloads)}
        services -= {name for _, name in change.gone}
        assert {host for rule in state.of("VirtualService") for host in rule["spec"]["hosts"]} <= services


def test_the_same_seed_mixes_the_same_changes_of_every_kind() -> None:
    assert list(echo_changes.mixed(5, 40)) == list(echo_changes.mixed(5, 40))
    found = [change.name for seed in range(3) for change in echo_changes.mixed(seed, 100)]
    words = (
        "port 7",
        "spare",
        "rules of echo",
        "TCP rules",
        "policy of echo",
        "policy of a port",
        "goes",
        "Sidecar of",
    )
    assert all(any(word in name for name in found) for word in words)
