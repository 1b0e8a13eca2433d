"""What istiod says of itself until the API server trusts its webhooks."""

from __future__ import annotations

from istiod.kube.webhooks import PATIENCE, Trust

MISSING = ("MutatingWebhookConfiguration a: its caBundle is not ours yet",)


class World:
    def __init__(self) -> None:
        self.missing: tuple[str, ...] = MISSING
        self.now = 100.0
        self.trust = Trust(lambda: self.missing, lambda: self.now)


def test_a_start_waits_for_the_bundle_and_a_lost_one_ends_no_service() -> None:
    world = World()
    assert world.trust.waiting() == MISSING
    world.missing = ()
    assert world.trust.waiting() == ()
    world.missing = MISSING
    assert world.trust.waiting() == ()


def test_a_bundle_that_never_comes_keeps_no_proxy_waiting() -> None:
    world = World()
    world.now += PATIENCE - 1
    assert world.trust.waiting() == MISSING
    world.now += 1
    assert world.trust.waiting() == ()
