"""What a refusal does, to one stream and to the others; and silence."""

from __future__ import annotations

import pytest

from istiod.ads.request import Request
from istiod.ads.send import Send
from istiod.ads.session import Shared
from istiod.ads.status import Sync
from istiod.config.resource import Resource
from tests.ads import made, model
from tests.ads.client import OTHER, C, Client, E, L, R, basic, brief, replaced, without

BOTH = pytest.mark.parametrize("delta", [True, False], ids=["delta", "sotw"])


@BOTH
def test_a_refused_response_is_sent_in_halves_until_one_is_to_blame(*, delta: bool) -> None:
    client = Client(*basic(), delta=delta)
    client.start()
    new = [model.make(L, f"n{i}", model.BAD if i == 2 else "0", ("c0",)) for i in range(4)]
    (send,) = client.set(*basic(), *new)
    refusals, seen = 0, [made.named(send.resources)]
    while True:
        bad = any(model.bad(r) for r in send.resources)
        refusals += bad
        sends = client.ack(send, error="n2 is bad" if bad else None)
        if not sends:
            break
        (send,) = sends
        seen.append(made.named(send.resources))
    assert refusals == 3, seen
    assert not client.session.settled()
    status = next(t for t in client.session.status(client.now) if t.type_url == L)
    assert (status.sync, status.refused, status.error) == (Sync.STALE, ("n2",), "n2 is bad")
    (send,) = client.set(*basic(), *[model.make(L, f"n{i}", "0", ("c0",)) for i in range(4)])
    client.ack(send)
    assert client.session.settled()
    assert next(t for t in client.session.status(client.now) if t.type_url == L).error == ""


def test_what_one_proxy_refuses_is_kept_from_the_others() -> None:
    shared = Shared()
    one, two = Client(*basic(), shared=shared), Client(*basic(), shared=shared)
    one.start()
    two.start()
    bad = replaced(model.make(L, "l0", model.BAD, (), ("r0",)))
    (send,) = one.set(*bad)
    assert one.ack(send, error="bad") == []
    assert two.set(*bad) == []
    three = Client(*bad, shared=shared)
    (cds,) = three.ask(C)
    (eds,) = three.ask(E, "c0", "c1")
    three.ack(eds)
    three.ack(cds)
    (lds,) = three.ask(L)
    assert lds.resources[0].version == model.make(L, "l0", "0", (), ("r0",)).version
    three.ack(lds)
    assert not three.session.settled()


def test_what_another_proxy_serves_is_refused_for_one_only() -> None:
    shared = Shared()
    one, two = Client(*basic(), shared=shared), Client(*basic(), shared=shared)
    one.start()
    two.start()
    disputed = replaced(model.make(L, "l0", "9", (), ("r0",)))
    (send,) = one.set(*disputed)
    one.ack(send)
    (send,) = two.set(*disputed)
    two.ack(send, error="I do not like it")
    assert len(shared.quarantine) == 0


def test_a_proxy_that_takes_it_after_all_ends_the_quarantine() -> None:
    shared = Shared()
    one, two = Client(*basic(), shared=shared), Client(*basic(), shared=shared)
    one.start()
    two.start()
    disputed = replaced(model.make(L, "l0", "9", (), ("r0",)))
    (first,), (second,) = one.set(*disputed), two.set(*disputed)
    one.ack(first, error="I do not like it")
    assert len(shared.quarantine) == 1
    two.ack(second)
    assert len(shared.quarantine) == 0


def test_a_refused_removal_is_a_removal() -> None:
    client = Client(*basic())
    client.start()
    client.set(*without("c1"))
    (removal,) = client.plan(60.0)
    assert client.ack(removal, error="no") == []
    assert client.plan(100.0) == []


def test_a_refused_name_that_was_taken_back_is_nobodys_fault() -> None:
    client = Client(*basic())
    client.start()
    (eds,) = client.set(*replaced(model.make(E, "c1", "1")))
    client.say(Request(type_url=E, unsubscribe=("c1",)))
    assert client.ack(eds, error="no") == []
    assert not client.session._stream.subscriptions[E].refused


def test_a_client_that_never_answers_is_stale_after_a_minute() -> None:
    client = Client(*basic())
    client.ask(C)
    assert client.session.status(59.0)[0].sync is Sync.PENDING
    assert client.session.status(60.0)[0].sync is Sync.STALE


def test_a_removal_in_a_refused_response_is_said_again_and_not_taken_for_held() -> None:
    client = Client(*basic(), model.make(OTHER, "l1", "0"))
    client.start()
    client.ack(*client.ask(OTHER))
    (lds,) = client.set(*basic(), model.make(OTHER, "l2", model.BAD))
    assert brief([lds]) == [("NameTable", ["l2"], ["l1"])]
    (again,) = client.ack(lds, error="no")
    assert brief([again]) == [("NameTable", [], ["l1"])], "Envoy did not note that it is gone"
    assert client.set(*basic(), model.make(OTHER, "l1", "0")) == []
    (back,) = client.ack(again)
    assert brief([back]) == [("NameTable", ["l1"], [])]


def test_what_comes_back_right_after_a_refused_removal_is_sent_again() -> None:
    client = Client(*basic(), model.make(OTHER, "l1", "0"))
    client.start()
    client.ack(*client.ask(OTHER))
    (lds,) = client.set(*basic(), model.make(OTHER, "l2", model.BAD))
    assert client.set(*basic(), model.make(OTHER, "l1", "0")) == []
    (back,) = client.ack(lds, error="no")
    assert brief([back]) == [("NameTable", ["l1"], [])], "the same version, but the client removed it"


def test_what_a_client_refuses_is_listed_with_its_words_until_the_target_changes() -> None:
    shared = Shared()
    client, other = Client(*basic(), shared=shared), Client(*basic(), shared=shared)
    client.start()
    other.start()
    bad = model.make(L, "l2", model.BAD)
    (lds,) = client.set(*basic(), bad)
    assert client.ack(lds, error="no such filter") == []
    (found,) = client.session.rejections()
    assert (found.resource, found.error) == (bad, "no such filter")
    assert [r.resource for r in shared.quarantine.rejections()] == [bad]
    assert client.session.wants(bad)
    assert not other.session.wants(bad)
    assert client.set(*basic(), model.make(L, "l2", "1")) != []
    assert list(client.session.rejections()) == []


def test_clusters_leave_although_a_listener_is_kept_back_that_another_client_refused() -> None:
    shared = Shared()
    client, other = Client(*basic(), shared=shared), Client(*basic(), shared=shared)
    client.start()
    other.start()
    bad = model.make(L, "l2", model.BAD)
    (lds,) = client.set(*basic(), bad)
    client.ack(lds, error="no")
    assert other.set(*without("c1"), bad) == [], "neither the refused listener nor, yet, the removal"
    assert brief(other.plan(60.0)) == [("Cluster", [], ["c1"])]


def test_clusters_stay_that_the_last_good_version_of_a_refused_listener_leads_to() -> None:
    client = Client(*basic(), model.make(R, "r1", "0", ("c1",)), model.make(L, "l1", "0", (), ("r1",)))
    client.start()
    for send in client.set(*without("c1"), model.make(L, "l1", model.BAD, ("c0",), ("r0",))):
        client.ack(send, error="no")
    assert client.plan(300.0) == [], "its old route leads to c1, and neither is in the target"
    assert client.session.wake is None, "nothing will be due before something is said"


def test_resources_that_the_client_names_are_sent_apart_from_the_others() -> None:
    client = Client(*basic())
    client.start()
    new = [model.make(L, f"n{i}", model.BAD if i == 2 else "0", ("c0",)) for i in range(4)]
    (lds,) = client.set(*basic(), *new)
    (others,) = client.ack(lds, error="Error adding/updating listener(s) n2: error adding listener:\nno such filter")
    assert made.named(others.resources) == ["n0", "n1", "n3"]
    (guilty,) = client.ack(others)
    assert made.named(guilty.resources) == ["n2"]
    assert client.ack(guilty, error="Error adding/updating listener(s) n2: no") == []


def test_clusters_stay_that_the_listener_leads_to_whose_successor_waits_for_a_refused_route() -> None:
    client = Client(*basic(), model.make(R, "r1", "0", ("c1",)), model.make(L, "l1", "0", (), ("r1",)))
    client.start()
    then = (*without("c1"), model.make(L, "l1", "1", (), ("r9",)), model.make(R, "r9", model.BAD, ("c0",)))
    for send in client.set(*then):
        client.ack(send)
    for send in client.ask(R, "r9"):
        client.ack(send, error="no")
    assert client.plan(300.0) == [], "l1 is ACKed, and serves as it was: with r1, which leads to c1"
    assert client.session.wake is None


def moving(successor: tuple[str, ...], route: tuple[str, ...], *, bad: bool = True) -> list[Resource]:
    """The service of l1 moves to l2, as when its port becomes HTTP; l3 is of another service and goes with it."""
    version = model.BAD if bad else "0"
    rest = [one for one in (*basic(), everything()) if one.name != "l1"]
    return [*rest, model.make(L, "l2", "0", successor, ("r9",)), model.make(R, "r9", version, route)]


def everything() -> Resource:
    return model.make(L, "rest", "0", ("c2",))


def removed(client: Client, sends: list[Send]) -> list[list[str]]:
    """What is removed in which response while the client asks for r9 too, and refuses it while it is bad."""
    queue, found = list(sends), []
    while queue:
        send = queue.pop(0)
        found += [sorted(send.removed)] if send.removed else []
        bad = any(map(model.bad, send.resources))
        queue += client.ack(send, *(("r0", "r9") if send.type_url == R else ()), error="no" if bad else None)
    return found


@pytest.mark.parametrize("delta", [True, False])
def test_a_listener_stays_whose_successor_waits_for_a_refused_route(*, delta: bool) -> None:
    before = [*basic(), everything(), model.make(L, "l1", "0", ("c1", "c2")), model.make(L, "l3", "0", ("c0", "c2"))]
    client = Client(*before, delta=delta)
    client.start()
    gone = removed(client, client.set(*moving((), ("c1", "c2"))))
    gone += removed(client, client.ask(R, "r0", "r9"))
    gone += removed(client, client.plan(300.0))
    assert gone == [["l3"]], "without l1 its connections would pass all rules; nobody takes l3's over"
    gone = removed(client, client.set(*moving((), ("c1", "c2"), bad=False)))
    assert gone == [["l1"]]
