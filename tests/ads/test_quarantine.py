from __future__ import annotations

from istiod.ads.quarantine import Quarantine
from tests.ads import model
from wire import names


def test_the_last_good_resource_is_remembered_whoever_refuses_first() -> None:
    quarantine = Quarantine()
    refused, good = model.make(names.LISTENER, "l", "2"), model.make(names.LISTENER, "l", "1")
    quarantine.refuse(refused, None, "no")
    quarantine.refuse(refused, good, "no")
    quarantine.refuse(refused, None, "no")
    assert quarantine.instead(refused) is good
    assert not quarantine.holds(good)


def test_the_oldest_entries_make_room() -> None:
    quarantine = Quarantine(limit=2)
    refused = [model.make(names.LISTENER, "l", str(i)) for i in range(3)]
    for each in refused:
        quarantine.refuse(each, None, "no")
    assert [rejection.resource for rejection in quarantine.rejections()] == refused[1:]
    assert [quarantine.holds(each) for each in refused] == [False, True, True]
