"""Two replicas, or one before and after a restart: what each keeps from whom, and what is kept of it."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from crds.diagnostic import Code
from crds.key import ConfigKey
from crds.meta import Object
from crds.parse import parse
from istiod.ads.quarantine import Client, Quarantine
from istiod.config import resource
from istiod.config.origin import Origin
from istiod.config.resource import Resource
from istiod.lastgood import keeper, record
from istiod.lastgood.keeper import Keeper, View
from tests.ads import made
from wire import names

WEB = Client(identity="shop", name="web-1.shop")
GOOD = made.listener("l1", 80, "r1")


def envoy_filter(value: str, name: str = "odd") -> Object:
    spec = {
        "configPatches": [{"applyTo": "LISTENER", "patch": {"operation": "MERGE", "value": {"stat_prefix": value}}}]
    }
    found: dict[str, Any] = {"apiVersion": "networking.istio.io/v1alpha3", "kind": "EnvoyFilter", "spec": spec}
    item = parse({**found, "metadata": {"name": name, "namespace": "shop"}}).object
    assert item is not None
    return item


BAD_FILTER = envoy_filter("bad")
ORIGIN = Origin(key=BAD_FILTER.key)


def bad(name: str = "l1", port: int = 80) -> Resource:
    return made.listener(name, port, "r1", bad=True)


@dataclass
class Shelf:
    """Records in memory: as the API server keeps them for all replicas."""

    items: dict[str, bytes] = field(default_factory=dict)

    async def load(self) -> None:
        """All is there."""

    async def run(self, due: Callable[[], Mapping[str, bytes | None]]) -> None:
        raise AssertionError(f"these tests ask the keeper themselves, not by {due}")


@dataclass
class Replica:
    """A control plane as far as refusals go: its quarantine, what its proxies should have, and the objects."""

    shelf: Shelf
    objects: dict[ConfigKey, Object] = field(default_factory=lambda: {BAD_FILTER.key: BAD_FILTER})
    target: list[Resource] = field(default_factory=list)
    origins: tuple[Origin, ...] = (ORIGIN,)
    time: float = 0.0
    ready: bool = True
    told: int = 0

    def __post_init__(self) -> None:
        self.quarantine = Quarantine()
        view = View(
            ready=lambda: self.ready,
            wants=lambda wanted: any(
                (each.type_url, each.name, each.version) == (wanted.type_url, wanted.name, wanted.version)
                for each in self.target
            ),
            find=self._find,
            origins=lambda *_: self.origins,
            clock=lambda: self.time,
            now=lambda: 1000.0 + self.time,
        )
        self.keeper = Keeper(self.quarantine, self.shelf, view, self._tell)

    def _find(self, key: ConfigKey) -> Object | None:
        return self.objects.get(key)

    def _tell(self) -> None:
        self.told += 1

    def refuse(self, refused: Resource, instead: Resource | None = GOOD, client: Client = WEB) -> None:
        self.target.append(refused)
        self.quarantine.refuse(refused, instead, "no such filter", client)

    def write(self) -> Mapping[str, bytes | None]:
        """One look, with what it finds due written."""
        changes = self.keeper.due()
        for name, raw in changes.items():
            if raw is None:
                self.shelf.items.pop(name, None)
            else:
                self.shelf.items[name] = raw
        return changes

    def codes(self) -> list[Code]:
        return [found.code for found in self.keeper.findings()]


def refused_and_kept() -> tuple[Shelf, Resource]:
    shelf, refused = Shelf(), bad()
    first = Replica(shelf)
    first.refuse(refused)
    assert len(first.write()) == 1
    assert first.write() == {}, "once is enough"
    return shelf, refused


def test_what_was_refused_before_a_restart_is_refused_after_it_and_the_last_good_version_is_known() -> None:
    shelf, refused = refused_and_kept()
    again = Replica(shelf)
    again.keeper.take()
    assert again.told == 1
    assert again.quarantine.holds(refused, "shop")
    assert not again.quarantine.holds(refused, "bank"), "whose word it is not"
    found = again.quarantine.instead(refused, "bank")
    assert found is not None
    assert found.any_frame == GOOD.any_frame
    assert again.quarantine.goods()[names.LISTENER, "l1", GOOD.version] is found
    (rejection,) = again.quarantine.rejections()
    assert (rejection.error, rejection.proxies, rejection.origins) == ("no such filter", ("web-1.shop",), (ORIGIN,))


def test_the_finding_stands_while_nobody_is_connected_yet() -> None:
    shelf, refused = refused_and_kept()
    again = Replica(shelf, ready=False)
    again.keeper.take()
    assert again.keeper.standing(refused), "objects are being read"
    again.ready = True
    assert again.keeper.standing(refused)
    again.target = [bad(port=81)]
    again.quarantine.refuse(again.target[0], None, "no", WEB)
    again.write()
    again.keeper.take()
    assert not again.keeper.standing(refused), "its proxies have a later version of it"
    assert not again.keeper.standing(bad("other"))


@pytest.mark.parametrize("after", [None, envoy_filter("good")], ids=["gone", "mended"])
def test_a_record_goes_with_its_object(after: Object | None) -> None:
    shelf, refused = refused_and_kept()
    again = Replica(shelf)
    again.write()
    del again.objects[BAD_FILTER.key]
    if after is not None:
        again.objects[after.key] = after
    assert again.write() == {}
    assert not again.keeper.standing(refused)
    again.time += keeper.GRACE
    assert list(again.write().values()) == [None]
    assert shelf.items == {}
    assert not again.quarantine.holds(refused, "shop")
    assert again.write() == {}


def test_it_stays_where_its_object_changed_and_still_makes_the_same() -> None:
    shelf, refused = refused_and_kept()
    here, there = Replica(shelf), Replica(shelf, target=[refused])
    for each in (here, there):
        each.write()
        each.objects[BAD_FILTER.key] = envoy_filter("bad, too")
    assert here.write() == {}
    assert len(there.write()) == 1, "its proxies still should have it, so it says so"
    here.time += keeper.GRACE
    assert here.write() == {}
    assert here.keeper.standing(refused)


def test_one_that_a_proxy_accepts_is_released_everywhere() -> None:
    shelf, refused = refused_and_kept()
    here, there = Replica(shelf), Replica(shelf, target=[refused])
    here.write()
    there.write()
    there.quarantine.accept(refused)
    there.write()
    assert shelf.items == {}
    there.keeper.take()
    assert there.quarantine.instead(refused, "shop") is not None, "an old Envoy refuses once more, and has it"
    here.write()
    assert shelf.items == {}
    assert not here.quarantine.holds(refused, "shop")


def test_nothing_is_taken_away_before_all_objects_are_read() -> None:
    shelf, _ = refused_and_kept()
    again = Replica(shelf, objects={}, ready=False)
    again.time = 1000.0
    assert again.write() == {}
    assert len(shelf.items) == 1


def test_a_refusal_of_no_known_object_stays_while_somebody_should_have_it() -> None:
    shelf = Shelf()
    first = Replica(shelf, origins=())
    refused = bad()
    first.refuse(refused)
    first.write()
    first.time += keeper.GRACE
    assert first.write() == {}
    first.target.clear()
    first.write()
    first.time += keeper.GRACE
    first.write()
    assert shelf.items == {}


def test_a_last_good_version_that_is_found_later_is_kept_then() -> None:
    shelf = Shelf()
    first = Replica(shelf)
    refused = bad()
    first.refuse(refused, None)
    first.write()
    first.quarantine.refuse(refused, GOOD, "no", WEB)
    assert len(first.write()) == 1
    assert record.unpack(next(iter(shelf.items.values()))).refused.instead is not None


def test_what_nobody_should_have_any_more_is_not_written() -> None:
    first = Replica(Shelf())
    first.quarantine.refuse(bad(), GOOD, "no", WEB)
    assert first.write() == {}


def test_other_types_are_not_kept() -> None:
    first = Replica(Shelf())
    first.refuse(resource.make("s", names.SECRET, b"private"), None)
    assert first.write() == {}


def test_one_that_is_too_large_is_kept_without_its_last_good_version_and_that_is_said() -> None:
    noise = random.Random(7).randbytes(record.MOST_PACKED)
    large = resource.make("l1", names.LISTENER, b"\x0a\x02l1" + resource.delimited(b"\x7a", noise))
    first = Replica(Shelf())
    first.refuse(bad(), large)
    assert len(first.write()) == 1
    assert first.codes() == [Code.UNKEPT]
    assert first.write() == {}, "and is not written again and again"
    assert first.codes() == [Code.UNKEPT]
    (raw,) = first.shelf.items.values()
    assert record.unpack(raw).refused.instead is None


def test_one_identity_fills_its_own_share_only() -> None:
    first = Replica(Shelf())
    for i in range(keeper.MOST_OF_ONE + 5):
        first.refuse(bad(f"l{i}"), None)
    first.write()
    assert len(first.shelf.items) == keeper.MOST_OF_ONE
    first.refuse(bad(), None, Client(identity="bank"))
    first.write()
    assert len(first.shelf.items) == keeper.MOST_OF_ONE + 1
    assert first.codes() == [Code.UNKEPT] * 5


def test_all_records_together_stay_below_what_a_secret_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "MOST", 4000)
    first = Replica(Shelf())
    for i in range(20):
        first.refuse(bad(f"l{i}"), None, Client(identity=f"shop{i}"))
    first.write()
    assert 2 < len(first.shelf.items) < 20
    assert sum((len(raw) + 2) // 3 * 4 + len(name) for name, raw in first.shelf.items.items()) <= 4000


def test_the_oldest_versions_of_a_resource_make_room_for_newer_ones() -> None:
    first = Replica(Shelf())
    for port in range(80, 80 + 3 * keeper.MOST_VERSIONS):
        first.target.clear()
        first.refuse(bad(port=port))
        first.write()
        first.time += 1
    assert len(first.shelf.items) <= keeper.MOST_VERSIONS + 1
    kept = {record.unpack(raw).at for raw in first.shelf.items.values()}
    assert 1000.0 + 3 * keeper.MOST_VERSIONS - 1 in kept


def test_what_cannot_be_read_is_left_alone_and_said(caplog: pytest.LogCaptureFixture) -> None:
    shelf, refused = refused_and_kept()
    (raw,) = shelf.items.values()
    shelf.items |= {"rubbish": b"\x00", "refused-other": raw}
    again = Replica(shelf, target=[refused])
    for _ in range(3):
        again.write()
    assert len(caplog.records) == 2, "a line each"
    assert len(shelf.items) == 3
    assert again.codes() == [Code.UNKEPT]
    assert again.quarantine.holds(refused, "shop")
    del shelf.items["rubbish"], shelf.items["refused-other"]
    again.write()
    assert again.codes() == []
