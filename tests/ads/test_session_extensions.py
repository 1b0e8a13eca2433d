"""Configurations that filters ask for by name, on a stream: when they are sent, wait and leave."""

from __future__ import annotations

import pytest

from istiod.ads.request import Request
from istiod.ads.send import Send
from istiod.ads.session import Shared
from istiod.config import resource
from istiod.config.resource import Resource
from tests.ads import model
from tests.ads.client import C, Client, E, L, R, basic, brief, replaced, without
from wire import names

X = names.EXTENSION
BOTH = pytest.mark.parametrize("delta", [True, False], ids=["delta", "sotw"])
KIND = "TypedExtensionConfig"


def listener(*extensions: str) -> Resource:
    refs = {R: frozenset(("r0",)), X: frozenset(extensions)}
    return resource.make("l0", L, f"asks for {extensions}".encode(), refs=refs)


def config(revision: str, *clusters: str) -> Resource:
    return model.make(X, "x0", revision, clusters)


ASKING = replaced(listener("x0"))


def asking(*, delta: bool = True) -> Client:
    """A client that serves a listener with a filter whose configuration came by discovery."""
    client = Client(*ASKING, config("0"), delta=delta)
    (cds,) = client.ask(C)
    (eds,) = client.ask(E, "c0", "c1")
    client.ack(eds, "c0", "c1")
    client.ack(cds)
    (lds,) = client.ask(L)
    (rds,) = client.ask(R, "r0")
    client.ack(lds)
    client.ack(rds, "r0")
    assert not client.session.settled(), "the listener waits for its filter's configuration"
    (ecds,) = client.ask(X, "x0")
    assert brief([ecds]) == [(KIND, ["x0"], [])]
    assert client.ack(ecds, "x0") == []
    assert client.session.settled()
    return client


@BOTH
def test_a_change_is_one_response(*, delta: bool) -> None:
    client = asking(delta=delta)
    (ecds,) = client.set(*ASKING, config("1"))
    assert brief([ecds]) == [(KIND, ["x0"], [])]
    assert client.ack(ecds, "x0") == []
    assert client.session.settled()
    assert client.session.quiet


@BOTH
def test_a_name_that_nobody_has_is_not_answered(*, delta: bool) -> None:
    client = asking(delta=delta)
    assert client.ask(X, *(["none"] if delta else ["x0", "none"])) == []
    (ecds,) = client.set(*ASKING, config("0"), model.make(X, "none", "0"))
    assert brief([ecds]) == [(KIND, ["none"], [])]


@BOTH
def test_it_waits_for_clusters_that_it_names(*, delta: bool) -> None:
    client = asking(delta=delta)
    wanted = [*ASKING, config("1", "c2"), model.make(C, "c2", "0"), model.make(E, "c2", "0")]
    (cds,) = client.set(*wanted)
    (eds,) = client.ask(E, "c0", "c1", "c2")
    client.ack(eds, "c0", "c1", "c2")
    (ecds,) = client.ack(cds)
    assert brief([ecds]) == [(KIND, ["x0"], [])]
    client.ack(ecds, "x0")
    assert client.set(*ASKING, config("2"), *wanted[-1:])[0].type_url == X
    assert client.plan(after=200) == [], "what it named stays until the other is taken"


def test_a_cluster_leaves_when_the_configuration_that_names_it_is_replaced() -> None:
    client = asking()
    wanted = [*ASKING, config("1", "c2"), model.make(C, "c2", "0"), model.make(E, "c2", "0")]
    (cds,) = client.set(*wanted)
    (eds,) = client.ask(E, "c2")
    client.ack(eds)
    (ecds,) = client.ack(cds)
    client.ack(ecds)
    (ecds,) = client.set(*ASKING, config("2"))
    assert client.ack(ecds) == []
    assert brief(client.plan(after=61)) == [("Cluster", [], ["c2"])]


def test_one_that_is_withdrawn_from_a_filter_that_stays_is_removed() -> None:
    client = asking()
    (ecds,) = client.set(*ASKING)
    assert brief([ecds]) == [(KIND, [], ["x0"])]
    assert client.ack(ecds) == []
    assert client.session.settled()
    assert brief(client.set(*ASKING, config("0"))) == [(KIND, ["x0"], [])]


def test_a_client_of_the_state_of_the_world_keeps_what_is_withdrawn() -> None:
    client = asking(delta=False)
    assert client.set(*ASKING) == []
    assert client.session.settled()


@BOTH
def test_one_that_no_listener_asks_for_any_more_stays_until_it_is_given_back(*, delta: bool) -> None:
    client = asking(delta=delta)
    (lds,) = client.set(*replaced())
    assert brief([lds]) == [("Listener", ["l0"], [])]
    assert client.ack(lds) == []
    assert client.session.settled()


def test_nothing_is_withdrawn_before_the_listeners_are_switched() -> None:
    client = asking()
    other = model.make(R, "r1", "0", ("c0",))
    both = resource.make("l0", L, b"two", refs={R: frozenset(("r0", "r1")), X: frozenset(("x0",))})
    (lds,) = client.set(*without("l0"), both, other)
    assert client.ack(lds) == []
    (rds,) = client.ask(R, "r1")
    (ecds,) = client.ack(rds)
    assert brief([ecds]) == [(KIND, [], ["x0"])]


@BOTH
def test_a_refused_one_holds_nothing_back(*, delta: bool) -> None:
    client = asking(delta=delta)
    wanted = [*without("c1", "l0"), listener("x0"), config(model.BAD)]
    (ecds,) = client.set(*wanted)
    client.ack(ecds, "x0", error="x0: refused")
    (told,) = client.session.rejections()
    assert (told.resource.name, told.error) == ("x0", "x0: refused")
    (cds,) = client.plan(after=61)
    assert cds.type_url == C, "the cluster that left still goes"
    (ecds,) = [each for each in client.set(*wanted[:-1], config("2")) if each.type_url == X]
    assert brief([ecds]) == [(KIND, ["x0"], [])]


def lacking(wanted: list[Resource], then: list[Resource], *, delta: bool) -> tuple[Client, list[list[str]]]:
    """A client that goes from ``wanted`` to ``then``, but for x0, which another one refused; and what is removed."""
    shared, bad = Shared(), config(model.BAD)
    shared.quarantine.refuse(bad, None, "x0: refused")
    client = Client(*wanted, delta=delta, shared=shared)
    client.start()
    gone = taken(client, client.set(*then, bad))
    gone += taken(client, client.ask(X, "x0"))
    return client, gone + taken(client, client.plan(after=300))


def taken(client: Client, sends: list[Send]) -> list[list[str]]:
    """ACK them, and what follows; what they removed."""
    for send in sends:
        sends += client.ack(send, *(["x0"] if send.type_url == X else []))
    return [sorted(send.removed) for send in sends if send.removed]


@BOTH
def test_clusters_stay_that_a_listener_leads_to_whose_successor_waits_for_what_is_kept_back(*, delta: bool) -> None:
    """The successor is ACKed, and warms for ever: nobody answers what it asks."""
    old, new = model.make(L, "l1", "0", (), ("r1",)), model.make(L, "l1", "1", (), (), ("x0",))
    before = [*basic(), model.make(R, "r1", "0", ("c1",)), old]
    client, gone = lacking(before, [*without("c1"), new], delta=delta)
    assert gone == [], "l1 serves as it was: with r1, which leads to c1"
    assert taken(client, client.set(*without("c1"), new, config("0"))) == []
    assert taken(client, client.plan(after=61)) == [["c1"]]


@BOTH
@pytest.mark.parametrize(("itself", "route"), [(("c1",), ()), ((), ("r1",))], ids=["itself", "by a route"])
def test_a_listener_stays_whose_successor_waits_for_what_is_kept_back(
    itself: tuple[str, ...], route: tuple[str, ...], *, delta: bool
) -> None:
    """Without l1 the connections of its service would pass all rules; nobody takes those of l2 over."""
    rest = [*basic(), model.make(R, "r1", "0", ("c1",)), model.make(L, "other", "0", ("c0",), ("r1",))]
    new = model.make(L, "l3", "0", itself, route, ("x0",))
    leaving = [model.make(L, "l1", "0", ("c1",)), model.make(L, "l2", "0", ("c0",))]
    client, gone = lacking([*rest, *leaving], [*rest, new], delta=delta)
    assert gone == [["l2"]]
    assert taken(client, client.set(*rest, new, config("0"))) == [["l1"]]


def test_the_old_listener_stays_until_the_new_one_has_its_configuration() -> None:
    """Another name with a filter that waits for what is on its way: see gates.taken_over."""
    client = asking()
    new = resource.make("l1", L, b"new", refs={R: frozenset(("r0",)), X: frozenset(("x1",))})
    (lds,) = client.set(*without("l0"), new, config("0"), model.make(X, "x1", "0"))
    assert brief([lds]) == [("Listener", ["l1"], [])]
    assert client.ack(lds) == []
    (ecds,) = client.ask(X, "x1")
    (gone,) = client.ack(ecds)
    assert brief([gone]) == [("Listener", [], ["l0"])]


def upstream(name: str, *extensions: str, revision: str = "0") -> Resource:
    """A cluster with a filter whose configuration comes by discovery."""
    refs = {X: frozenset(extensions), E: frozenset((name,))}
    return resource.make(name, C, f"{name} {revision} {extensions}".encode(), refs=refs)


def asked_by_a_cluster(*clusters: str, delta: bool) -> tuple[Client, list[Resource]]:
    """A client with a new cluster that waits for x0, which names these clusters: CDS has no ACK yet."""
    client = Client(*basic(), delta=delta)
    client.start()
    new = [upstream("c2", "x0"), model.make(E, "c2", "0"), model.make(R, "r0", "1", ("c2",)), config("0", *clusters)]
    named = [made for name in clusters for made in (upstream(name), model.make(E, name, "0"))]
    wanted = replaced(*new, *named)
    cds = client.set(*wanted)[0]
    assert cds.type_url == C
    return client, wanted


@BOTH
def test_a_cluster_under_way_gets_the_configuration_that_it_waits_for(*, delta: bool) -> None:
    """Else its ACK waits for us and we for its ACK, until the gate opens over a cluster that is not there."""
    client, _ = asked_by_a_cluster(delta=delta)
    (eds,) = client.ask(E, *(["c2"] if delta else ["c0", "c1", "c2"]))
    assert client.ack(eds, "c0", "c1", "c2") == []
    (ecds,) = client.ask(X, "x0")
    assert brief([ecds]) == [(KIND, ["x0"], [])]
    assert client.ack(ecds, "x0") == [], "routes wait for the ACK of CDS"


@BOTH
def test_it_is_sent_after_the_clusters_that_it_names(*, delta: bool) -> None:
    client, _ = asked_by_a_cluster("c3", delta=delta)
    assert client.ask(X, "x0") == [], "c3 is not warm yet"
    (eds,) = client.ask(E, *(["c2", "c3"] if delta else ["c0", "c1", "c2", "c3"]))
    (ecds,) = client.ack(eds, "c0", "c1", "c2", "c3")
    assert brief([ecds]) == [(KIND, ["x0"], [])]


def test_one_that_is_withdrawn_from_a_cluster_that_stays_is_removed() -> None:
    client, wanted = asked_by_a_cluster(delta=True)
    (cds,) = client.session._stream.clusters.flights if client.session._stream.clusters else ()
    (eds,) = client.ask(E, "c2")
    client.ack(eds)
    (ecds,) = client.ask(X, "x0")
    client.ack(ecds)
    (rds,) = client.say(Request(type_url=C, nonce=cds.nonce))
    client.ack(rds)
    assert client.session.settled()
    (gone,) = client.set(*(each for each in wanted if each.type_url != X))
    assert brief([gone]) == [(KIND, [], ["x0"])]


def test_a_client_that_came_back_with_a_warming_cluster_gets_what_that_waits_for() -> None:
    """It brings no CDS, as Envoy does while something warms."""
    wanted = replaced(upstream("c2", "x0"), model.make(E, "c2", "0"), config("0"))
    client = Client(*wanted)
    held = {each.name: each.version for each in wanted if each.type_url == E}
    client.ask(E, *held, initial=held)
    (ecds,) = client.ask(X, "x0")
    assert brief([ecds]) == [(KIND, ["x0"], [])]


def test_the_last_good_one_serves_although_it_names_a_cluster_that_never_was() -> None:
    """Where the refused one names it, too: then it has not gone since."""
    good, bad, shared = config("0", "typo"), config(model.BAD, "typo"), Shared()
    shared.quarantine.refuse(bad, good, "x0: refused")
    client = Client(*ASKING, bad, shared=shared)
    (ecds,) = client.ask(X, "x0")
    assert ecds.resources == (good,)
    shared.quarantine.refuse(other := config(model.BAD), good, "x0: refused")
    client = Client(*ASKING, other, shared=shared)
    assert client.ask(X, "x0") == [], "here it may have gone"


def test_a_cluster_stays_that_the_configuration_of_a_kept_listener_names() -> None:
    """The client refused the listener that asks no more; the one before it asks still, for what the target has not."""
    client = asking()
    wanted = [*ASKING, config("1", "c2"), upstream("c2"), model.make(E, "c2", "0")]
    (cds,) = client.set(*wanted)
    (eds,) = client.ask(E, "c2")
    client.ack(eds)
    (ecds,) = client.ack(cds)
    client.ack(ecds)
    (lds,) = client.set(*without("l0"), model.make(L, "l0", model.BAD))
    client.ack(lds, error="l0: refused")
    assert client.plan(after=300) == []
    (lds,) = client.set(*basic())
    client.ack(lds)
    assert brief(client.plan(after=61)) == [("Cluster", [], ["c2"])]


@BOTH
def test_a_cluster_that_the_client_has_or_that_never_was_holds_no_configuration_up(*, delta: bool) -> None:
    client, wanted = asked_by_a_cluster(delta=delta)
    client.set(*(each for each in wanted if each.type_url != X), config("1", "c1", "typo"))
    (ecds,) = client.ask(X, "x0")
    assert brief([ecds]) == [(KIND, ["x0"], [])]
