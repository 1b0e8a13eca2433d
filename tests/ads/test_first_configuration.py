"""What many clients get that have nothing yet: looked up once, whatever becomes of it on the way."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from istiod.ads import bundle
from istiod.ads.bundle import FEW, LARGE, Bundle, Bundles
from istiod.ads.request import Request
from istiod.ads.session import Shared
from istiod.config.resource import Resource, ResourceSet
from tests.ads import made, model
from tests.ads.client import C, Client, E, basic, brief, replaced

MANY = [f"c{number:03}" for number in range(LARGE)]


class Layer(dict[str, Resource]):
    """As the compiler's: can be referenced weakly, and counts how often it is asked for a name."""

    asked = 0

    def get(self, name: str, default: Any = None) -> Any:
        self.asked += 1
        return super().get(name, default)


def layer(type_url: str, known: Iterable[str], version: str = "0") -> Layer:
    return Layer({name: model.make(type_url, name, version) for name in known})


def target(*clusters: Layer, endpoints: Layer) -> ResourceSet:
    return ResourceSet(layers={C: clusters, E: (endpoints,)})


def connected(to: ResourceSet, shared: Shared) -> Client:
    client = Client(shared=shared)
    client.session.retarget(to, None)
    client.target = to
    return client


def warm(client: Client, asked: list[str]) -> None:
    (cds,) = client.ask(C)
    assert made.named(cds.resources) == sorted(r.name for r in client.target.of(C))
    (eds,) = client.ask(E, *asked)
    assert made.named(eds.resources) == asked
    assert client.ack(eds) == []
    assert client.ack(cds) == []
    assert not any(sub.overlay for sub in client.session._stream.subscriptions.values())


def test_the_second_client_of_equal_layers_has_no_name_looked_up() -> None:
    clusters, endpoints, shared = layer(C, MANY), layer(E, MANY), Shared()
    warm(connected(target(clusters, layer(C, ["own-1"]), endpoints=endpoints), shared), MANY)
    clusters.asked = endpoints.asked = 0
    warm(connected(target(clusters, layer(C, ["own-2"]), endpoints=endpoints), shared), MANY)
    assert (clusters.asked, endpoints.asked) == (0, 0)


def test_a_bundle_goes_with_its_layer() -> None:
    bundles, names = Bundles(), frozenset(MANY)
    known = [bundles.of(target(endpoints=layer(E, MANY, str(turn))), E, names) for turn in range(5)]
    for turn, one in enumerate(known):
        assert one is not None
        assert one["c000"].version == model.make(E, "c000", str(turn)).version


def test_only_the_newest_bundles_are_remembered() -> None:
    bundles, names = Bundles(most=2), frozenset(MANY)
    targets = [target(endpoints=layer(E, MANY)) for _ in range(3)]
    first, second, third = [bundles.of(each, E, names) for each in targets]
    assert bundles.of(targets[2], E, names) is third
    assert bundles.of(targets[1], E, names) is second
    assert bundles.of(targets[0], E, names) is not first
    assert bundles.of(targets[1], E, names) is second


def test_bundles_are_forgotten_when_their_bytes_take_too_much_room(monkeypatch: pytest.MonkeyPatch) -> None:
    bundles, names = Bundles(), frozenset(MANY)
    targets = [target(endpoints=layer(E, MANY)) for _ in range(3)]
    first, second = [bundles.of(each, E, names) for each in targets[:2]]
    assert first is not None
    assert second is not None
    assert sum(map(len, first.frames(delta=True))) == first.size > 0
    monkeypatch.setattr(bundle, "ROOM", first.size)
    second.frames(delta=True)
    assert bundles.of(targets[2], E, names) is not None
    assert bundles.of(targets[1], E, names) is second
    assert bundles.of(targets[0], E, names) is not first


def test_what_many_clients_get_is_joined_once_and_never_copied() -> None:
    clusters, endpoints, shared = layer(C, MANY), layer(E, MANY), Shared()
    sent = []
    for own in ("own-1", "own-2"):
        (cds,) = connected(target(clusters, layer(C, [own]), endpoints=endpoints), shared).ask(C)
        sent.append(cds.encode())
        frames = b"".join(r.delta_frame for r in cds.resources)
        assert b"".join(sent[-1]).startswith(frames)
    assert sent[0][0] is sent[1][0]
    few = [model.make(E, f"c{number}", "0") for number in range(FEW)]
    assert all(one is r.delta_frame for one, r in zip(bundle.frames(few, delta=True), few, strict=True))


def test_names_that_do_not_exist_make_no_bundle() -> None:
    bundles, endpoints = Bundles(), layer(E, MANY)
    asked = frozenset((*MANY, "unknown"))
    assert bundles.of(target(endpoints=endpoints), E, asked) is None
    endpoints.asked = 0
    assert bundles.of(target(endpoints=endpoints), E, asked) is None
    assert endpoints.asked == 0
    assert bundles.of(ResourceSet(layers={}), E, asked) is None


def test_layers_that_nobody_can_refer_to_are_looked_at_each_time() -> None:
    bundles, endpoints = Bundles(), made.targets(*layer(E, MANY).values())
    one, other = (bundles.of(endpoints, E, frozenset(MANY)) for _ in range(2))
    assert one == other
    assert one is not other


def test_a_target_without_a_type_has_an_empty_bundle() -> None:
    assert Bundles().of(ResourceSet(layers={}), C, None) == Bundle()


def test_an_unknown_name_in_a_first_request_for_endpoints_is_answered_empty() -> None:
    client = Client(*basic())
    client.ask(C)
    (eds,) = client.ask(E, "c0", "unknown")
    assert made.named(eds.resources) == ["c0", "unknown"]
    assert client.ack(eds) == []


def test_a_change_while_a_first_response_is_on_its_way_follows_it() -> None:
    client = Client(*basic())
    client.ask(C)
    (eds,) = client.ask(E, "c0", "c1")
    assert client.set(*replaced(changed := model.make(E, "c1", "1"))) == []
    (after,) = client.ack(eds)
    assert [(r.name, r.version) for r in after.resources] == [("c1", changed.version)]


def test_a_first_response_that_is_refused_is_sent_again_in_halves() -> None:
    client = Client(*basic())
    client.ask(C)
    (eds,) = client.ask(E, "c0", "c1")
    halves = client.ack(eds, error="bad")
    halves += client.ack(halves[0])
    assert sorted(name for _, (name,), _ in brief(halves)) == ["c0", "c1"]
    assert client.ack(halves[1]) == []
    assert not client.session._stream.subscriptions[E].overlay


def test_a_change_before_a_first_response_is_in_it() -> None:
    client = Client(*basic())
    client.session.request(Request(type_url=E, subscribe=("c0", "c1")))
    (eds,) = client.set(*replaced(model.make(E, "c1", "1")))
    assert brief([eds]) == [("ClusterLoadAssignment", ["c0", "c1"], [])]
    assert client.ack(eds) == []
    assert not client.session._stream.subscriptions[E].overlay


def test_names_asked_for_in_two_requests_before_the_first_answer_come_together() -> None:
    client = Client(*basic())
    client.session.request(Request(type_url=E, subscribe=("c0",)))
    (eds,) = client.ask(E, "c1")
    assert brief([eds]) == [("ClusterLoadAssignment", ["c0", "c1"], [])]


def test_a_name_given_back_before_the_first_answer_is_not_in_it() -> None:
    client = Client(*basic())
    client.session.request(Request(type_url=E, subscribe=("c0", "c1")))
    client.session.request(Request(type_url=E, unsubscribe=("c0",)))
    assert brief(client.plan()) == [("ClusterLoadAssignment", ["c1"], [])]


def test_a_wildcard_given_back_before_the_first_answer_leaves_the_names() -> None:
    client = Client(*basic())
    client.session.request(Request(type_url=C))
    client.session.request(Request(type_url=C, subscribe=("c0",), unsubscribe=("*",)))
    (cds,) = client.plan()
    assert "c0" in made.named(cds.resources)
