"""The steps from one CA to another: what each waits for, what it tells, and that nobody is ever left without a root."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from istiod.ca import authority, rollover
from istiod.ca.authority import Authority, AuthorityError
from istiod.ca.rollover import Seen
from tests.ca import chains

OLD, NEW, OTHER = (authority.self_signed("cluster.local", chains.now()) for _ in range(3))
HOUR = 3600.0
ALL, NOBODY, UNKNOWN = Seen(missing=0), Seen(missing=3, longest=HOUR), Seen(longest=HOUR)


def ca(material: authority.Material) -> Authority:
    return Authority(material)


def begun() -> tuple[rollover.Step, Authority]:
    """A mesh of OLD, an hour's certificates, whose operator has just put NEW in its place."""
    old = ca(OLD)
    state = rollover.first(old, 0.0, HOUR)
    return rollover.step(state, ca(NEW), old, UNKNOWN, 100.0), old


def test_a_new_ca_waits_until_all_proxies_have_its_root() -> None:
    step, _ = begun()
    assert step.signer.anchor.encode() == OLD.certificate
    assert authority.split(step.signer.roots) == (OLD.certificate.decode(), NEW.certificate.decode())
    assert step.state.signer is not None
    step = rollover.step(step.state, ca(NEW), None, NOBODY, 101.0)
    assert step.signer.anchor.encode() == OLD.certificate
    assert "3 connected proxies are without the new root" in step.status
    step = rollover.step(step.state, ca(NEW), None, ALL, 102.0)
    assert step.signer.anchor.encode() == NEW.certificate
    assert step.state.signer is None


def test_what_is_seen_of_the_roots_before_says_nothing_of_a_new_one() -> None:
    old = ca(OLD)
    step = rollover.step(rollover.first(old, 0.0, HOUR), ca(NEW), old, ALL, 100.0)
    assert step.signer.anchor.encode() == OLD.certificate
    assert step.state.waits


def test_the_old_root_stays_while_certificates_may_live_that_need_it() -> None:
    step, _ = begun()
    step = rollover.step(step.state, ca(NEW), None, ALL, 200.0)
    step = rollover.step(step.state, ca(NEW), step.signer, Seen(missing=0, old=2), 200.0 + HOUR)
    assert len(step.state.roots) == 2
    assert "the old root is not removed" in step.status
    assert "until 1970-01-01T01:03:25Z; 2 connected proxies show one" in step.status
    step = rollover.step(step.state, ca(NEW), step.signer, ALL, 200.0 + HOUR + rollover.MARGIN)
    assert [root.pem.encode() for root in step.state.roots] == [NEW.certificate]
    assert step.status == ""


def test_time_is_proof_enough_for_proxies_that_show_nothing() -> None:
    step, _ = begun()
    again = rollover.step(step.state, ca(NEW), None, NOBODY, 100.0 + HOUR)
    assert again.signer.anchor.encode() == OLD.certificate
    again = rollover.step(again.state, ca(NEW), None, NOBODY, 100.0 + HOUR + rollover.MARGIN)
    assert again.signer.anchor.encode() == NEW.certificate


def test_a_longer_life_that_was_granted_makes_everything_wait_longer() -> None:
    step, _ = begun()
    step = rollover.step(step.state, ca(NEW), None, Seen(missing=0, longest=10 * HOUR), 200.0)
    step = rollover.step(step.state, ca(NEW), None, ALL, 200.0 + 9 * HOUR)
    assert len(step.state.roots) == 2


def test_an_intermediate_of_a_known_root_signs_at_once() -> None:
    first, second = chains.intermediate(OLD), chains.intermediate(OLD, "another")
    one = ca(first)
    step = rollover.step(rollover.first(one, 0.0, HOUR), ca(second), one, NOBODY, 1.0)
    assert step.signer.material.certificate == second.certificate
    assert len(step.state.roots) == 1
    assert step.status == ""


def test_a_further_root_is_published_and_told_until_it_is_known() -> None:
    old = ca(OLD)
    both = ca(chains.trusting(OLD, OLD, NEW))
    step = rollover.step(rollover.first(old, 0.0, HOUR), both, old, UNKNOWN, 1.0)
    assert "a new root is published" in step.status
    assert not rollover.step(step.state, both, None, NOBODY, 2.0).state.roots[1].ready
    step = rollover.step(step.state, both, None, ALL, 2.0)
    assert step.status == ""
    new = rollover.step(step.state, ca(chains.trusting(NEW, OLD, NEW)), both, NOBODY, 3.0)
    assert new.signer.anchor.encode() == NEW.certificate  # everybody knew it
    assert len(new.state.roots) == 2
    only = rollover.step(new.state, ca(NEW), new.signer, NOBODY, 4.0)
    assert len(only.state.roots) == 2
    assert "not removed" in only.status


def test_a_root_that_is_taken_back_before_it_signed_goes_at_once() -> None:
    step, _ = begun()
    back = rollover.step(step.state, ca(OLD), None, NOBODY, 101.0)
    assert [root.pem.encode() for root in back.state.roots] == [OLD.certificate]
    assert back.state.signer is None


def test_where_the_old_key_is_gone_the_new_one_signs_and_both_roots_are_published() -> None:
    state = rollover.first(ca(OLD), 0.0, HOUR)
    step = rollover.step(state, ca(NEW), None, UNKNOWN, 1.0)
    assert step.signer.anchor.encode() == NEW.certificate
    assert authority.split(step.signer.roots) == (OLD.certificate.decode(), NEW.certificate.decode())
    step = rollover.step(step.state, ca(NEW), step.signer, ALL, HOUR)
    assert len(step.state.roots) == 2
    step = rollover.step(step.state, ca(NEW), step.signer, ALL, 1.0 + HOUR + rollover.MARGIN)
    assert [root.pem.encode() for root in step.state.roots] == [NEW.certificate]


def test_a_leader_that_does_not_know_the_new_ca_yet_leaves_the_root_of_what_it_signed() -> None:
    """The kubelet brings a mounted ``cacerts`` to each replica at another time, up to two minutes late."""
    step, old = begun()
    step = rollover.step(step.state, ca(NEW), None, ALL, 200.0)
    step = rollover.step(step.state, ca(NEW), step.signer, Seen(missing=0, longest=HOUR), 201.0)
    late = rollover.step(step.state, old, old, ALL, 202.0)
    assert NEW.certificate.decode() in authority.split(late.signer.roots)
    caught_up = rollover.step(late.state, ca(NEW), late.signer, ALL, 203.0)
    assert caught_up.signer.anchor.encode() == NEW.certificate
    assert [root.until for root in caught_up.state.roots] == [203.0 + HOUR + rollover.MARGIN, 0.0]


def test_the_state_survives_its_text() -> None:
    step, old = begun()
    assert rollover.load(rollover.dump(step.state)) == step.state
    assert rollover.load(rollover.dump(rollover.first(old, 1.0, 2.0))).signer is None
    kept = rollover.keeping(rollover.first(old, 1.0, 2.0), old)
    assert kept.signer == old.material


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"roots": [{"pem": "x"}], "signer": null, "since": 0}', "null"])
def test_a_text_that_is_no_state_is_an_error(text: str) -> None:
    with pytest.raises(AuthorityError, match="cannot be read"):
        rollover.load(text)


def test_replicas_count_together() -> None:
    assert rollover.merged((Seen(missing=1, old=2, longest=3), Seen(missing=4, old=5, longest=6))) == Seen(
        missing=5, old=7, longest=6
    )
    assert rollover.merged((Seen(missing=0), Seen())).missing is None


CHOICES = [OLD, NEW, OTHER, chains.trusting(OLD, OLD, NEW), chains.trusting(NEW, OTHER, NEW)]
AUTHORITIES = [ca(each) for each in CHOICES]
moves = st.tuples(st.integers(0, len(CHOICES) - 1), st.sampled_from([0, 1, None]), st.floats(0.1, HOUR))


@given(st.lists(moves, max_size=12))
def test_whatever_an_operator_does_a_certificate_that_lives_has_its_root(
    steps: list[tuple[int, int | None, float]],
) -> None:
    """And nobody signs below a root that some proxy was never told."""
    state, current, now = rollover.first(AUTHORITIES[0], 0.0, HOUR), AUTHORITIES[0], 0.0
    signed: dict[str, float] = {}
    for choice, missing, later in steps:
        now += later
        step = rollover.step(state, AUTHORITIES[choice], current, Seen(missing=missing, longest=HOUR), now)
        published = {root.pem for root in step.state.roots}
        assert step.signer.anchor in published
        assert next(root for root in step.state.roots if root.pem == step.signer.anchor).ready
        signed[current.anchor] = now + HOUR
        assert {anchor for anchor, until in signed.items() if until > now} <= published
        signed[step.signer.anchor] = now + HOUR
        assert authority.fingerprint(authority.split(step.signer.roots)) == step.state.fingerprint
        state, current = rollover.load(rollover.dump(step.state)), step.signer
