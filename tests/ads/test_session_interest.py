"""What clients ask for, in all the ways in which they can."""

from __future__ import annotations

import pytest

from istiod.ads.request import OversizedRequestError, Request
from istiod.ads.session import MAX_TYPES, AdsSession, Shared
from istiod.ads.status import Sync
from istiod.config.resource import EMPTY, ResourceSet
from tests.ads import made, model
from tests.ads.client import OTHER, C, Client, E, L, R, S, basic, brief, replaced

BOTH = pytest.mark.parametrize("delta", [True, False], ids=["delta", "sotw"])


@BOTH
def test_unsubscribed_names_are_forgotten(*, delta: bool) -> None:
    client = Client(*basic(), delta=delta)
    client.start()
    listed = None if delta else ("c0",)
    client.say(Request(type_url=E, names=listed, unsubscribe=("c1",) if delta else ()))
    assert client.set(*replaced(model.make(E, "c1", "1"))) == []
    again = Request(type_url=E, names=None if delta else ("c0", "c1"), subscribe=("c1",) if delta else ())
    assert brief(client.say(again)) == [("ClusterLoadAssignment", ["c1"], [])]


def test_a_name_that_is_subscribed_again_is_answered_again() -> None:
    client = Client(*basic())
    client.start()
    assert brief(client.ask(E, "c0")) == [("ClusterLoadAssignment", ["c0"], [])]


def test_who_asks_again_and_again_and_acknowledges_nothing_is_answered_a_bounded_number_of_times() -> None:
    """Row SEC23: what is under way would pile up."""
    client = Client(*basic())
    client.start()
    sends = [send for _ in range(200) for send in client.ask(E, "c0")]
    assert len(sends) == 64
    assert brief(client.ack(sends[0])) == [("ClusterLoadAssignment", ["c0"], [])], "what is owed is not forgotten"
    for send in sends[1:]:
        client.ack(send)
    assert len(client.ask(E, "c1")) == 1


def test_state_of_the_world_by_name_lists_what_was_asked_for() -> None:
    client = Client(*basic(), delta=False)
    (cds,) = client.ask(C, "c1", "nothing")
    assert made.named(cds.resources) == ["c1"]
    client.say(Request(type_url=C, names=("*",), nonce=cds.nonce))
    assert client.session._stream.subscriptions[C].wildcard


def test_clients_without_clusters_are_not_gated() -> None:
    client = Client(*basic())
    assert brief(client.ask(L)) == [("Listener", ["l0"], [])]
    assert brief(client.ask(R, "r0")) == [("RouteConfiguration", ["r0"], [])]
    assert client.session.status(0.0)[0].sync is Sync.PENDING


def test_other_types_are_answered_even_when_there_is_nothing() -> None:
    client = Client(*basic())
    (send,) = client.ask(OTHER)
    assert send.resources == ()
    client.ack(send)
    (send,) = client.set(*basic(), model.make(OTHER, "table", "0"))
    assert client.set(*basic(), model.make(OTHER, "table", "1")) == []
    (send,) = client.ack(send)
    client.ack(send)
    assert brief(client.set(*basic())) == [("NameTable", [], ["table"])]


def test_a_name_that_does_not_exist_is_answered_as_removed_once() -> None:
    client = Client(*basic())
    (cds,) = client.ask(C, "*", "missing")
    assert cds.removed == ("missing",)
    assert client.ack(cds) == []
    assert client.ask(C, "missing")[0].removed == ("missing",)
    assert client.say(Request(type_url=C, unsubscribe=("*",))) == []
    assert client.set(*replaced(model.make(C, "c0", "1"))) == []


def test_secrets_that_are_unknown_are_waited_for() -> None:
    client = Client(*basic())
    assert client.ask(S, "s0") == []
    assert client.session.status(0.0)[0].sync is Sync.NOT_SENT
    (send,) = client.set(*basic(), model.make(S, "s0", "0"))
    assert brief([send]) == [("Secret", ["s0"], [])]
    client.ack(send)
    assert client.session.status(0.0)[0].sync is Sync.SYNCED


def test_a_comparison_of_whole_targets_skips_shared_layers() -> None:
    client = Client(*basic())
    client.start()
    before = client.target
    layers = dict(before.layers) | {E: (before.layers[E][0], {"c2": model.make(E, "c2", "0")})}
    client.session.retarget(ResourceSet(layers=layers), None)
    assert client.plan() == []


def test_one_stream_asks_for_a_bounded_number_of_types_and_names() -> None:
    client = Client(delta=True)
    for i in range(MAX_TYPES):
        client.ask(f"{OTHER}{i}")
    with pytest.raises(OversizedRequestError):
        client.ask(f"{OTHER}more")
    many = Client(delta=True)
    for i in range(5):
        many.session.request(Request(type_url=E, subscribe=tuple(f"n{i}-{k}" for k in range(20_000))))
    with pytest.raises(OversizedRequestError):
        many.ask(E, "one more")


def test_equal_names_of_many_streams_are_one_set() -> None:
    shared = Shared()
    clients = [Client(*basic(), shared=shared) for _ in range(3)]
    for client in clients:
        client.ask(E, "c0", "c1")
    sets = {id(client.session._stream.subscriptions[E].names) for client in clients}
    assert len(sets) == 1


def test_an_empty_mesh_is_an_answer() -> None:
    session = AdsSession(EMPTY, 0.0, delta=True, shared=Shared())
    session.request(Request(type_url=C))
    (cds,) = session.plan(0.0)
    session.request(Request(type_url=C, nonce=cds.nonce))
    session.request(Request(type_url=L))
    (lds,) = session.plan(0.0)
    session.request(Request(type_url=L, nonce=lds.nonce))
    assert session.settled()
