"""The order of one stream, rule by rule; the interplay is in test_session_model.py."""

from __future__ import annotations

import pytest

from istiod.ads.request import Request
from istiod.ads.stream import Timing
from istiod.config.resource import Resource
from tests.ads import made, model
from tests.ads.client import C, Client, E, L, R, S, basic, brief, replaced, started_with, without

BOTH = pytest.mark.parametrize("delta", [True, False], ids=["delta", "sotw"])


@BOTH
def test_a_stream_in_sync_stores_nothing_per_resource(*, delta: bool) -> None:
    client = Client(*basic(), delta=delta)
    client.start()
    for sub in client.session._stream.subscriptions.values():
        assert not sub.overlay
        assert not sub.flights
    assert client.session.wake is None


@BOTH
def test_an_endpoint_change_is_one_response_with_one_resource(*, delta: bool) -> None:
    client = Client(*basic(), delta=delta)
    client.start()
    assert brief(client.set(*replaced(model.make(E, "c1", "1")))) == [("ClusterLoadAssignment", ["c1"], [])]


def test_endpoint_changes_under_way_are_merged() -> None:
    client = Client(*basic())
    client.start()
    (first,) = client.set(*replaced(model.make(E, "c0", "1")))
    assert client.set(*replaced(model.make(E, "c0", "2"))) == []
    assert client.set(*replaced(model.make(E, "c0", "3"), model.make(E, "c1", "1"))) == []
    assert brief(client.ack(first)) == [("ClusterLoadAssignment", ["c0", "c1"], [])]


@BOTH
def test_a_changed_cluster_brings_its_unchanged_endpoints_along(*, delta: bool) -> None:
    client = Client(*basic(), delta=delta)
    client.start()
    client.set(*replaced(model.make(E, "c0", "1")))  # an EDS response is under way: it does not hold this back
    sends = client.set(*replaced(model.make(E, "c0", "1"), model.make(C, "c1", "1")))
    assert brief(sends)[1] == ("ClusterLoadAssignment", ["c1"], [])
    assert sends[0].type_url == C


def test_endpoints_may_have_another_name_than_their_cluster() -> None:
    cluster = made.cluster("c0")
    renamed = Resource(
        name="c0",
        type_url=C,
        version="x",
        any_frame=cluster.any_frame,
        delta_frame=cluster.delta_frame,
        refs={E: frozenset(("hosts",))},
    )
    client = Client(*basic(), model.make(E, "hosts", "0"))
    client.ask(C)
    client.ask(E, "hosts")
    client = started_with(client)
    assert brief(client.set(*replaced(renamed), model.make(E, "hosts", "0")))[1] == (
        "ClusterLoadAssignment",
        ["hosts"],
        [],
    )


def test_listeners_and_routes_wait_for_clusters() -> None:
    client = Client(*basic())
    client.start()
    wanted = replaced(model.make(C, "c2", "0"), model.make(E, "c2", "0"), model.make(R, "r0", "1", ("c2",)))
    (cds,) = client.set(*wanted)
    assert cds.type_url == C
    assert client.session.wake == pytest.approx(client.now + 35)
    (eds,) = client.ask(E, "c2")
    assert client.ack(eds) == []
    assert brief(client.ack(cds)) == [("RouteConfiguration", ["r0"], [])]


def test_a_silent_cds_holds_back_five_seconds_and_what_names_its_clusters_thirty_more() -> None:
    client = Client(*basic())
    client.start()
    stuck = [model.make(C, "c2", "0"), model.make(E, "c2", "0"), model.make(L, "l1", "0", ("c2",))]
    client.set(*replaced(*stuck, model.make(R, "r0", "1", ("c0",))))
    assert client.plan(4.9) == []
    assert brief(client.plan(0.2)) == [("RouteConfiguration", ["r0"], [])]
    assert client.plan(29.0) == []
    assert brief(client.plan(1.0)) == [("Listener", ["l1"], [])]


def test_a_silent_cds_is_followed_by_the_next_after_two_seconds() -> None:
    client = Client(*basic())
    client.start()
    client.set(*replaced(model.make(C, "c2", "0")))
    assert client.set(*replaced(model.make(C, "c3", "0"))) == []
    assert client.session.wake == pytest.approx(client.now + 2)
    assert brief(client.plan(2.0)) == [("Cluster", ["c3"], [])]


def test_a_removed_cluster_lingers_from_the_last_ack_of_listeners_and_routes() -> None:
    client = Client(*basic())
    client.start()
    wanted = [*without("c0", "r0"), model.make(R, "r0", "1", ("c1",))]
    (rds,) = client.set(*wanted)
    assert rds.type_url == R
    assert client.plan(1000.0) == []
    assert client.ack(rds) == []
    assert client.plan(59.0) == []
    assert brief(client.plan(1.5)) == [("Cluster", [], ["c0"])]
    assert client.plan(1.0) == []


def test_a_lingering_cluster_that_comes_back_unchanged_is_not_sent() -> None:
    client = Client(*basic())
    client.start()
    assert client.set(*without("c1")) == []
    assert client.session.wake == pytest.approx(client.now + 60)
    assert client.set(*basic()) == []
    assert client.plan(100.0) == []
    assert client.session.settled()


def test_endpoints_go_on_while_a_cluster_lingers() -> None:
    client = Client(*basic())
    client.start()
    gone = [r for r in basic() if (r.type_url, r.name) != (C, "c1")]
    client.set(*gone)
    kept = [r for r in gone if (r.type_url, r.name) != (E, "c1")]
    assert brief(client.set(*kept, model.make(E, "c1", "1"))) == [("ClusterLoadAssignment", ["c1"], [])]


def test_a_cluster_removed_in_flight_comes_back_with_the_next_response() -> None:
    client = Client(*basic())
    client.start()
    client.set(*without("c1"))
    (removal,) = client.plan(61.0)
    assert client.set(*basic()) == []
    assert brief(client.ack(removal))[0] == ("Cluster", ["c1"], [])


def test_lingering_is_capped_and_the_oldest_leave_first() -> None:
    first = [model.make(C, f"a{i}", "0") for i in range(150)]
    second = [model.make(C, f"b{i}", "0") for i in range(150)]
    client = Client(*basic(), *first, *second)
    (cds,) = client.ask(C)
    client.ack(cds)
    client.set(*basic(), *second)
    client.now += 10
    (send,) = client.set(*basic())
    assert len(send.removed) == 100
    assert all(name.startswith("a") for name in send.removed)


def test_a_listener_whose_routes_did_not_come_still_needs_the_old_clusters() -> None:
    client = Client(*basic())
    client.start()
    moved = [model.make(R, "r1", "0", ("c1",)), model.make(L, "l0", "1", (), ("r1",))]
    (lds,) = client.set(*without("c0", "r0", "l0"), *moved)
    client.ack(lds)
    assert client.plan(1000.0) == []
    (rds,) = client.ask(R, "r1")
    client.ack(rds)
    assert brief(client.plan(60.0)) == [("Cluster", [], ["c0"])]


def test_clusters_leave_although_a_listener_names_a_route_that_comes_from_elsewhere() -> None:
    client = Client(*without("l0"), model.make(L, "l0", "0", (), ("elsewhere", "r0")))
    client.start()
    assert client.set(*without("l0", "c1"), model.make(L, "l0", "0", (), ("elsewhere", "r0"))) == []
    assert brief(client.plan(60.0)) == [("Cluster", [], ["c1"])]


def test_clusters_leave_a_client_that_asks_for_listeners_by_name() -> None:
    more = (model.make(R, "r1", "0", ("c0",)), model.make(L, "l1", "0", (), ("r1",)))
    client = Client(*basic(), *more)
    (cds,) = client.ask(C)
    (eds,) = client.ask(E, "c0", "c1")
    client.ack(eds)
    client.ack(cds)
    (lds,) = client.ask(L, "l0", "nobody")
    client.ack(lds)
    (rds,) = client.ask(R, "r0")
    (none,) = client.ack(rds)
    assert brief([none]) == [("Listener", [], ["nobody"])]
    client.ack(none)
    assert client.set(*without("c1"), *more) == []
    assert brief(client.plan(60.0)) == [("Cluster", [], ["c1"])]


def test_a_listener_whose_secret_is_outstanding_still_needs_the_old_clusters() -> None:
    secret = model.make(S, "s0", "0")
    held = Resource(
        name="l0", type_url=L, version="v", any_frame=b"", delta_frame=b"", refs={S: frozenset(("s0", "default"))}
    )
    client = Client(*without("l0", "r0"), secret, held)
    (cds,) = client.ask(C)
    (eds,) = client.ask(E, "c0", "c1")
    client.ack(eds)
    client.ack(cds)
    (lds,) = client.ask(L)
    client.ack(lds)
    client.set(*without("l0", "r0", "c1"), secret, held)
    assert client.plan(100.0) == []
    (sds,) = client.ask(S, "s0")
    client.ack(sds)
    assert brief(client.plan(60.0)) == [("Cluster", [], ["c1"])]


@BOTH
def test_a_removed_listener_is_removed_at_once(*, delta: bool) -> None:
    client = Client(*basic(), delta=delta)
    client.start()
    ((kind, listed, removed),) = brief(client.set(*without("l0")))
    assert (kind, listed, removed) == ("Listener", [], ["l0"])


@BOTH
def test_a_listener_goes_when_the_one_that_takes_over_has_its_routes(*, delta: bool) -> None:
    client = Client(*basic(), delta=delta)
    client.start()
    after = (*without("l0"), model.make(R, "r1", "0", ("c0",)), model.make(L, "l1", "0", (), ("r1",)))
    (lds,) = client.set(*after)
    assert brief([lds]) == [("Listener", ["l0", "l1"] if not delta else ["l1"], [])]
    assert client.ack(lds) == [], "the ACK says nothing: it has no routes yet"
    (rds,) = client.ask(R, "r0", "r1")
    (removal,) = client.ack(rds, "r0", "r1")
    assert brief([removal]) == [("Listener", ["l1"] if not delta else [], ["l0"])]
    client.ack(removal)
    assert client.session.settled()


def test_a_listener_does_not_wait_for_ever_for_one_without_routes() -> None:
    client = Client(*basic())
    client.start()
    (lds,) = client.set(*without("l0"), model.make(L, "l1", "0", (), ("r1",)))
    assert client.ack(lds) == []
    assert client.plan(29.0) == []
    assert brief(client.plan(1.0)) == [("Listener", [], ["l0"])]


def test_a_listener_does_not_wait_longer_where_others_change_all_the_time() -> None:
    client = Client(*basic())
    client.start()
    rest = (*without("l0"), model.make(L, "l1", "0", (), ("r1",)))
    (lds,) = client.set(*rest)
    client.ack(lds)
    for turn in range(3):
        client.now += 9.0
        (lds,) = client.set(*rest, model.make(L, "l2", str(turn)))
        assert client.plan() == [], "whatever happens while it is under way"
        client.ack(lds)
    assert client.plan(2.0) == []
    assert brief(client.plan(1.0)) == [("Listener", [], ["l0"])]


def test_a_listener_does_not_wait_for_one_that_is_refused() -> None:
    client = Client(*basic())
    client.start()
    (lds,) = client.set(*without("l0"), model.make(L, "l1", model.BAD, (), ("r1",)))
    assert brief([lds]) == [("Listener", ["l1"], [])]
    assert brief(client.ack(lds, error="no")) == [("Listener", [], ["l0"])]


def test_a_listener_does_not_wait_for_one_whose_routes_are_refused() -> None:
    client = Client(*basic())
    client.start()
    (lds,) = client.set(*without("l0"), model.make(R, "r1", model.BAD), model.make(L, "l1", "0", (), ("r1",)))
    client.ack(lds)
    (rds,) = client.ask(R, "r1")
    assert brief(client.ack(rds, error="no")) == [("Listener", [], ["l0"])]


def test_endpoints_that_are_asked_for_and_unknown_are_none() -> None:
    client = Client(*basic())
    client.ask(C)
    (eds,) = client.ask(E, "c0", "unknown")
    assert made.named(eds.resources) == ["c0", "unknown"]
    assert client.ack(eds) == []
    assert client.set(*basic(), model.make(E, "unknown", "0"))[0].type_url == E


def test_endpoints_in_use_are_never_emptied() -> None:
    client = Client(*basic())
    client.start()
    without_endpoints = [r for r in basic() if (r.type_url, r.name) != (E, "c0")]
    assert client.set(*without_endpoints) == []
    changed = [model.make(C, "c0", "1") if (r.type_url, r.name) == (C, "c0") else r for r in without_endpoints]
    _, eds = client.set(*changed)
    assert eds.resources[0].version == model.make(E, "c0", "0").version


def test_a_repeated_ack_says_nothing() -> None:
    client = Client(*basic(), delta=False)
    client.start()
    (eds,) = client.set(*replaced(model.make(E, "c0", "1")))
    assert client.ack(eds, "c0", "c1") == []
    assert client.ack(eds, "c0", "c1") == []
    assert client.say(Request(type_url=R, names=("r0",), nonce="stale")) == []


def test_a_warming_state_of_the_world_envoy_is_answered_although_it_repeats_itself() -> None:
    client = Client(*basic(), delta=False)
    client.start()
    _, eds = client.set(*replaced(model.make(C, "c0", "1")))
    assert client.say(Request(type_url=E, names=("c0", "c1"), nonce="2")) == []  # the answer is under way
    client.ack(eds, "c0", "c1")
    assert brief(client.say(Request(type_url=E, names=("c0", "c1"), nonce=eds.nonce))) == [
        ("ClusterLoadAssignment", ["c0"], [])
    ]


def test_state_of_the_world_lists_everything_and_lingering_clusters() -> None:
    client = Client(*basic(), delta=False)
    client.start()
    assert client.set(*without("c1")) == []
    new = [*without("c1"), model.make(C, "c2", "0")]
    (cds,) = client.set(*new)
    assert made.named(cds.resources) == ["c0", "c1", "c2"]
    client.ack(cds)
    assert made.named(client.plan(60.0)[0].resources) == ["c0", "c2"]


def test_an_ack_of_state_of_the_world_covers_those_before() -> None:
    client = Client(*basic(), delta=False)
    client.start()
    client.set(*replaced(model.make(C, "c2", "0")))
    client.set(*replaced(model.make(C, "c2", "0"), model.make(C, "c3", "0")))
    (second,) = client.plan(2.0)
    assert made.named(second.resources) == ["c0", "c1", "c2", "c3"]
    client.ack(second)
    assert not client.session._stream.subscriptions[C].flights


def test_a_session_is_quiet_when_nothing_is_left_to_do_at_any_time() -> None:
    client = Client(*basic())
    client.session.request(Request(type_url=C))
    assert not client.session.quiet
    client.start()
    assert client.session.quiet
    client.set(*without("c1"))
    assert not client.session.quiet  # a cluster lingers
    assert client.session.wake is not None


def test_a_returned_client_that_withholds_clusters_is_not_quiet() -> None:
    client = Client(*basic())
    client.ask(E, "c0", initial={r.name: r.version for r in client.target.of(E) if r.name == "c0"})
    assert not client.session.quiet


def test_a_warming_client_that_comes_back_with_all_that_we_have_waits_for_its_endpoints_a_moment_only() -> None:
    """Nobody else may have a reason to look at it again: without it, silence would last for ``forgo``."""
    client = Client(*basic())
    client.ask(E, "c0", "c1", initial={r.name: r.version for r in client.target.of(E)})
    assert client.plan(0.0) == []
    assert client.session.wake == Timing().collect
    assert brief(client.plan(Timing().collect)) == [("ClusterLoadAssignment", ["c0", "c1"], [])]
