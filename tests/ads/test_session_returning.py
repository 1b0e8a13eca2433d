"""Streams of clients that come back with what they hold."""

from __future__ import annotations

import pytest

from istiod.ads.request import Request
from istiod.ads.session import Shared
from istiod.config.resource import Resource
from tests.ads import made, model
from tests.ads.client import C, Client, E, L, R, basic, brief, without

BOTH = pytest.mark.parametrize("delta", [True, False], ids=["delta", "sotw"])


def test_a_returning_delta_client_gets_what_changed_and_loses_what_went() -> None:
    client = Client(*basic())
    held = {r.name: r.version for r in client.target.of(C)} | {"gone": "x"}
    assert client.ask(C, initial=held | {"c1": "old"})[0].removed == ()
    (eds,) = client.ask(E, "c0", "c1", initial={r.name: r.version for r in client.target.of(E)})
    assert made.named(eds.resources) == ["c1"], "the changed cluster warms again"
    client.ack(eds)
    client.say(Request(type_url=C, nonce="1"))
    assert client.ask(L, initial={"l0": model.make(L, "l0", "0", (), ("r0",)).version}) == []
    assert client.ask(R, "r0", initial={"r0": model.make(R, "r0", "0", ("c0",)).version}) == []
    assert brief(client.plan(60.0)) == [("Cluster", [], ["gone"])]


def test_a_returning_client_that_withholds_cds_gets_all_its_endpoints_again() -> None:
    client = Client(*basic())
    held = {r.name: r.version for r in client.target.of(E)} | {"gone": "x"}
    assert client.ask(E, "c0", "c1", "gone", initial=held) == []
    assert client.session.wake == pytest.approx(0.2)
    assert client.ask(L, initial={"l0": "old"}) == []
    (eds,) = client.plan(0.2)
    assert made.named(eds.resources) == ["c0", "c1"]
    client.ack(eds)
    (lds,) = client.plan(4.8)
    assert lds.type_url == L
    client.ack(lds)
    (forgone,) = client.plan(10.0)
    assert made.named(forgone.resources) == ["gone"]
    client.ack(forgone)
    assert client.ask(C, initial={r.name: r.version for r in client.target.of(C)}) == []


def test_a_returning_state_of_the_world_client_is_answered_in_order() -> None:
    client = Client(*basic(), delta=False)
    assert client.ask(L, version="7") == []
    (cds,) = client.ask(C, version="7")
    (eds,) = client.ask(E, "c0", "c1", version="7")
    client.ack(eds, "c0", "c1")
    (lds,) = client.ack(cds)
    assert (cds.type_url, eds.type_url, lds.type_url) == (C, E, L)


def test_a_returning_client_keeps_its_clusters_until_its_listeners_are_known() -> None:
    client = Client(*without("c1"))
    client.ask(C, initial={"c0": model.make(C, "c0", "0").version, "c1": "x"})
    assert client.plan(1000.0) == []


def returned(client: Client, held: list[Resource]) -> None:
    """Come back with these, ask again for all, and refuse what is bad."""

    def brought(type_url: str) -> dict[str, str]:
        return {one.name: one.version for one in held if one.type_url == type_url}

    sends = [*client.ask(C, initial=brought(C)), *client.ask(E, *brought(E), initial=brought(E))]
    sends += [*client.ask(L, initial=brought(L)), *client.ask(R, *brought(R), initial=brought(R))]
    while sends:
        send = sends.pop(0)
        sends += client.ack(send, error="no" if any(map(model.bad, send.resources)) else None)


@pytest.mark.parametrize("known", [True, False])
def test_clusters_leave_a_client_that_came_back_though_it_keeps_an_older_listener(*, known: bool) -> None:
    """Proxies come back every half hour, and a refused listener may stay so for days.

    The client refused the new version before it went, or refuses it now, which another did that had the same before.
    """
    old, bad = model.make(L, "l1", "0", ("c0",)), model.make(L, "l1", model.BAD)
    shared = Shared()
    other = Client(*basic(), old, shared=shared)
    other.start()
    for send in other.set(*basic(), bad):
        other.ack(send, error="no")
    if not known:
        shared.quarantine.accept(bad)
    client = Client(*without("c1"), bad, shared=shared)
    returned(client, [*basic(), old])
    assert brief(client.plan(60.0)) == [("Cluster", [], ["c1"])]


def test_clusters_stay_that_the_older_listener_of_a_client_that_came_back_leads_to() -> None:
    old, bad = model.make(L, "l1", "0", ("c1",)), model.make(L, "l1", model.BAD)
    shared = Shared()
    other = Client(*basic(), old, shared=shared)
    other.start()
    for send in other.set(*basic(), bad):
        other.ack(send, error="no")
    client = Client(*without("c1"), bad, shared=shared)
    returned(client, [*basic(), old])
    assert client.plan(300.0) == []


def test_a_returning_client_that_withholds_cds_is_not_settled() -> None:
    client = Client(*basic())
    assert client.session.settled(), "it asked for nothing"
    client.ask(E, "c0", "c1", initial={r.name: r.version for r in client.target.of(E)})
    assert not client.session.settled()


def test_routes_of_a_client_that_withholds_cds_move_to_clusters_that_were_warm_once() -> None:
    client = Client(*basic(), model.make(R, "r1", "0", ("c1",)), model.make(R, "r2", "0", ("gone",)))
    assert client.ask(E, "c0", "c1", "old", initial={"c0": "0", "old": "0"}) == []
    held = dict.fromkeys(("r0", "r1", "r2"), "old")
    assert client.ask(R, *held, initial=held) == []
    (eds,) = client.plan(0.2)
    assert made.named(eds.resources) == ["c0", "c1"]
    (rds,) = client.plan(4.8)
    assert made.named(rds.resources) == ["r0"], "c1 may be warming for the first time, and gone is unknown"
