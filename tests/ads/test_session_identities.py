"""Whose refusals count for whom: a hostile proxy withdraws nothing from others, an odd one keeps what it can take."""

from __future__ import annotations

import pytest

from istiod.ads.session import Shared
from istiod.config.resource import Resource
from tests.ads import model
from tests.ads.client import C, Client, E, L, basic, replaced

GOOD, BAD = model.make(L, "l0", "0", (), ("r0",)), model.make(L, "l0", model.BAD, (), ("r0",))


def joined(client: Client) -> list[Resource]:
    """The listeners that a new client gets after its clusters."""
    (cds,) = client.ask(C)
    (eds,) = client.ask(E, "c0", "c1")
    client.ack(eds)
    client.ack(cds)
    (lds,) = client.ask(L)
    if any(map(model.bad, lds.resources)):
        (lds,) = client.ack(lds, error="no such filter")
    client.ack(lds)
    return list(lds.resources)


def test_a_proxy_that_refuses_everything_takes_nothing_from_another_identity() -> None:
    shared = Shared()
    hostile, other = Client(*basic(), shared=shared, of="evil"), Client(*basic(), shared=shared, of="shop")
    hostile.start()
    other.start()
    for i in range(1, 20):
        new = replaced(model.make(L, "l0", str(i), (), ("r0",)))
        (send,) = hostile.set(*new)
        assert hostile.ack(send, error="no") == [], "not sent again until it changes"
        (send,) = other.set(*new)
        other.ack(send)
    assert other.session.settled()
    assert len(shared.quarantine) == 0


def test_new_proxies_of_all_identities_get_the_last_good_version() -> None:
    shared = Shared()
    one = Client(*basic(), shared=shared, of="shop", name="cart.shop")
    one.start()
    (send,) = one.set(*replaced(BAD))
    assert one.ack(send, error="no such filter") == []
    for identity in ("shop", "bank", "bank"):
        new = Client(*replaced(BAD), shared=shared, of=identity, name=f"new.{identity}")
        assert [r.version for r in joined(new)] == [GOOD.version], identity
    refusals = [r.proxies for r in shared.quarantine.rejections()]
    assert refusals == [("new.bank",), ("cart.shop",)], "one refusal for each identity"
    mended = replaced(model.make(L, "l0", "7", (), ("r0",)))
    (send,) = one.set(*mended)
    one.ack(send)
    assert one.session.settled()


@pytest.mark.parametrize("delta", [True, False])
def test_an_old_envoy_that_alone_refuses_keeps_its_own_and_leaves_others_theirs(*, delta: bool) -> None:
    shared = Shared()
    old = Client(*basic(), shared=shared, of="shop", name="old", delta=delta)
    new = Client(*basic(), shared=shared, of="shop", name="new", delta=delta)
    old.start()
    new.start()
    disputed = replaced(model.make(L, "l0", model.BAD, (), ("r0",)))
    (send,) = new.set(*disputed)
    new.ack(send)
    (send,) = old.set(*disputed)
    old.ack(send, error="no such field")
    assert new.session.settled()
    assert [r.proxies for r in old.session.rejections()] == [("old",)]
    again = Client(*disputed, shared=shared, of="shop", name="again")
    assert [r.version for r in joined(again)] == [GOOD.version], "after its own refusal"


def test_a_version_that_a_proxy_brought_is_known_by_what_was_kept_of_it() -> None:
    before = Shared()
    one = Client(*basic(), shared=before, of="shop")
    one.start()
    (send,) = one.set(*replaced(BAD))
    one.ack(send, error="no such filter")
    (stored,) = before.quarantine.held()
    shared = Shared()
    shared.quarantine.restore(stored)
    worse = model.make(L, "l0", model.BAD, ("c0",), ("r0",))
    back = Client(*replaced(worse), shared=shared, of="bank")
    (cds,) = back.ask(C)
    (eds,) = back.ask(E, "c0", "c1")
    back.ack(eds)
    back.ack(cds)
    (lds,) = back.ask(L, initial={"l0": GOOD.version})
    back.ack(lds, error="no such filter")
    assert shared.quarantine.instead(worse, "bank") is stored.instead
    new = Client(*replaced(worse), shared=shared, of="bank")
    assert [r.version for r in joined(new)] == [GOOD.version]
