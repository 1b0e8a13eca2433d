from __future__ import annotations

from istiod.ads import quarantine
from istiod.ads.quarantine import Client, Quarantine, Rejection
from tests.ads import model
from wire import names

SHOP, BANK = Client(identity="shop", name="cart.shop"), Client(identity="bank", name="till.bank")


def test_the_last_good_resource_is_remembered_whoever_refuses_first() -> None:
    kept = Quarantine()
    refused, good = model.make(names.LISTENER, "l", "2"), model.make(names.LISTENER, "l", "1")
    kept.refuse(refused, None, "no")
    kept.refuse(refused, good, "no")
    kept.refuse(refused, None, "no")
    assert kept.instead(refused) is good
    assert not kept.holds(good)


def test_the_oldest_entries_make_room() -> None:
    kept = Quarantine(limit=2)
    refused = [model.make(names.LISTENER, "l", str(i)) for i in range(3)]
    for each in refused:
        kept.refuse(each, None, "no")
    assert [rejection.resource for rejection in kept.rejections()] == refused[1:]
    assert [kept.holds(each) for each in refused] == [False, True, True]


def test_of_what_changes_while_it_is_refused_the_newest_versions_are_kept() -> None:
    """A route table of a large mesh has a megabyte, and changes with each rule."""
    kept = Quarantine()
    other = model.make(names.LISTENER, "other", "1")
    kept.refuse(other, None, "no", SHOP)
    refused = [model.make(names.ROUTE, "80", str(turn)) for turn in range(100)]
    for each in refused:
        kept.refuse(each, None, "no", SHOP)
        kept.refuse(each, None, "no", BANK)
    assert len(kept) == quarantine.MOST_VERSIONS + 1
    assert [kept.holds(each, "shop") for each in refused[-5:]] == [False, True, True, True, True]
    assert kept.holds(other, "shop")
    kept.refuse(refused[-4], None, "no", SHOP)
    assert kept.holds(refused[-4], "shop"), "what is refused again is no other"


def test_who_refuses_most_bytes_makes_room() -> None:
    small, large = model.make(names.LISTENER, "small", "1"), "x" * 1_000
    kept = Quarantine(room=10_000)
    kept.refuse(small, None, "no", SHOP)
    refused = [model.make(names.LISTENER, f"{turn}{large}", "1") for turn in range(20)]
    for each in refused:
        kept.refuse(each, None, "no", BANK)
    assert kept.holds(small, "shop")
    found = [kept.holds(each, "bank") for each in refused]
    assert found == sorted(found), "the newest ones are left"
    assert 0 < sum(found) < 10
    huge = model.make(names.LISTENER, "h" * 20_000, "1")
    kept.refuse(huge, None, "no", BANK)
    assert [each.rejection.resource for each in kept.held()] == [huge], (
        "what was refused last is kept from somebody in any case"
    )
    kept.release(huge, "bank")
    kept.refuse(small, None, "no", SHOP)
    assert kept.holds(small, "shop")


def test_a_word_counts_for_its_own_identity_only() -> None:
    kept = Quarantine()
    refused, good = model.make(names.LISTENER, "l", "2"), model.make(names.LISTENER, "l", "1")
    kept.refuse(refused, good, "no", SHOP)
    assert kept.holds(refused, "shop")
    assert not kept.holds(refused, "bank")
    assert kept.instead(refused, "bank") is good, "which is what it gets once it refused it as well"
    kept.refuse(refused, None, "no", BANK)
    assert kept.holds(refused, "bank")
    assert quarantine.merged(kept.rejections()) == (
        Rejection(resource=refused, error="no", proxies=("cart.shop", "till.bank")),
    )


def test_who_refuses_everything_loses_its_own_entries_and_nobody_elses() -> None:
    kept = Quarantine(limit=5)
    mine = model.make(names.LISTENER, "mine", "1")
    kept.refuse(mine, None, "no", SHOP)
    for i in range(50):
        kept.refuse(model.make(names.LISTENER, "l", str(i)), None, "no", BANK)
    assert kept.holds(mine, "shop")
    assert len(kept) == 5


def test_where_all_refuse_one_thing_each_the_first_makes_room() -> None:
    kept = Quarantine(limit=1)
    refused, shared = model.make(names.LISTENER, "l", "1"), model.make(names.LISTENER, "l", "2")
    kept.remember(refused, None, "no", SHOP)
    kept.refuse(shared, None, "no", BANK)
    kept.refuse(shared, None, "no", SHOP)
    assert kept.holds(shared, "shop")
    assert not kept.holds(shared, "bank")
    assert [each.identity for each in kept.held()] == ["shop"]


def test_what_one_loses_is_still_kept_from_another() -> None:
    kept = Quarantine(limit=2)
    both, other = model.make(names.LISTENER, "l", "1"), model.make(names.LISTENER, "l", "2")
    kept.refuse(both, None, "no", SHOP)
    kept.refuse(both, None, "no", BANK)
    kept.refuse(other, None, "no", SHOP)
    assert (kept.holds(both, "shop"), kept.holds(both, "bank"), kept.holds(other, "shop")) == (False, True, True)


def test_what_serves_instead_outlives_an_acceptance_elsewhere() -> None:
    kept = Quarantine()
    refused, good = model.make(names.LISTENER, "l", "2"), model.make(names.LISTENER, "l", "1")
    kept.refuse(refused, good, "no", SHOP)
    kept.accept(refused)
    kept.accept(good)
    assert len(kept) == 0
    assert not kept.holds(refused, "shop")
    assert kept.instead(refused, "shop") is good


def test_few_proxies_are_remembered_by_name() -> None:
    kept = Quarantine()
    refused = model.make(names.LISTENER, "l", "2")
    for i in range(30):
        kept.refuse(refused, None, "no", Client(identity="shop", name=f"p{i % 15}"))
    (found,) = kept.rejections()
    assert found.proxies == tuple(f"p{i}" for i in range(10))


def test_what_lets_in_more_serves_nobody_new() -> None:
    open_, closed = model.make(names.LISTENER, "l", "open"), model.make(names.LISTENER, "l", "closed")
    kept = Quarantine(safe=lambda before, _: before is not open_)
    kept.refuse(closed, open_, "no", SHOP)
    assert kept.instead(closed, "shop") is None
    assert [each.withheld for each in kept.rejections()] == [True]
    kept.refuse(closed, good := model.make(names.LISTENER, "l", "safe"), "no", BANK)
    assert kept.instead(closed, "shop") is good, "which is as safe for this identity"
    assert [each.withheld for each in quarantine.merged(kept.rejections())] == [True], "somebody was not served"


def test_what_is_restored_is_kept_from_its_identity_and_adds_what_serves_instead() -> None:
    refused, good = model.make(names.LISTENER, "l", "2"), model.make(names.LISTENER, "l", "1")
    before = Quarantine()
    before.refuse(refused, good, "no", SHOP)
    (stored,) = before.held()
    after = Quarantine()
    after.refuse(refused, None, "not at all", SHOP)
    for _ in range(2):
        after.restore(stored)
    assert after.instead(refused, "shop") is good
    assert after.goods() == {(names.LISTENER, "l", good.version): good}
    assert [each.error for each in after.rejections()] == ["not at all"]
    after.release(refused, "bank")
    assert after.holds(refused, "shop")
    after.release(refused, "shop")
    assert not after.holds(refused, "shop")
    assert after.instead(refused, "shop") is None
