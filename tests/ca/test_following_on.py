"""What keeps nobody from following the CA: reports that nobody takes, and wishes that cannot be granted."""

from __future__ import annotations

import pytest

from istiod.ca import authority, following, rollover
from istiod.ca.signer import Signer
from tests.ca import chains
from tests.ca.test_following import Shared


class Unheard(Shared):
    """One that takes no reports."""

    async def report(self, seen: rollover.Seen, fingerprint: int) -> None:
        del seen, fingerprint
        raise authority.AuthorityError("no right to write")


async def test_a_replica_that_is_not_heard_signs_as_the_others_do() -> None:
    """Else it would sign on by a CA whose root is removed in the end."""
    old, new = (authority.self_signed("cluster.local", chains.now()) for _ in range(2))
    before, wanted = authority.Authority(old), authority.Authority(new)
    begun = rollover.step(rollover.first(before, 0.0, 3600.0), wanted, before, rollover.Seen(), 100.0)
    switched = rollover.step(begun.state, wanted, None, rollover.Seen(missing=0), 101.0)
    place, signer = Unheard(new, switched.state), Signer(begun.signer)
    proxies = following.Proxies(clients=tuple, hasten=lambda *_: None)
    follows = following.Following(place, signer, proxies, following.Clock(now=lambda: 102.0, wait=30.0), print)
    with pytest.raises(authority.AuthorityError, match="no right"):
        await follows.look()
    assert signer.current.anchor.encode() == new.certificate


class Ungranted(Shared):
    """One whose operator wishes for a new self-signed root beside a CA of its own."""

    async def renew(self, state: rollover.State, signer: authority.Authority, *, aged: bool) -> bool:
        del state, signer, aged
        raise following.UngrantedError("there is another CA")


async def test_a_wish_that_cannot_be_granted_keeps_nobody_from_following_the_ca() -> None:
    """It may stand there for years, and the operator's own CA has to be followed all the same."""
    old, new = (authority.self_signed("cluster.local", chains.now()) for _ in range(2))
    shared = Ungranted(new, rollover.first(authority.Authority(old), 0.0, 3600.0))
    shared.leads = True
    proxies = following.Proxies(clients=tuple, hasten=lambda *_: None)
    clock = following.Clock(now=lambda: 1000.0, wait=30.0)
    follows = following.Following(shared, Signer(authority.Authority(old)), proxies, clock, print)
    with pytest.raises(authority.AuthorityError, match="another CA"):
        await follows.look()
    assert len(shared.kept.roots) == 2, "both roots are published"
