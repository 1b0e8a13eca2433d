from __future__ import annotations

from crds.key import ConfigKey
from crds.meta import Object
from istiod.config import gateway_names, key_sets
from istiod.config.key_sets import KeySource
from istiod.config.store import ConfigStore


def thing(name: str, **labels: str) -> Object:
    return Object.model_validate(
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "Sidecar",
            "metadata": {"name": name, "namespace": "a", "labels": labels},
        }
    )


def test_an_equal_object_says_nothing() -> None:
    heard: list[ConfigKey] = []
    store = ConfigStore(heard.append)
    assert store.apply(thing("x"))
    assert not store.apply(thing("x"))
    assert store.apply(thing("x", app="web"))
    assert [key.name for key in heard] == ["x", "x"]


def test_a_snapshot_does_not_see_later_changes() -> None:
    store = ConfigStore()
    store.apply(thing("x"))
    before = store.snapshot()
    store.apply(thing("y"))
    assert store.remove(thing("x").key)
    assert not store.remove(thing("x").key)
    assert [item.metadata.name for item in before] == ["x"]
    assert before.get(thing("x").key) == thing("x")
    assert list(store.keys()) == [thing("y").key]


def test_a_key_set_that_is_the_same_says_nothing_and_later_ones_do_not_reach_a_snapshot() -> None:
    heard: list[ConfigKey] = []
    store = ConfigStore(heard.append)
    one, other = KeySource(uri="https://a.example"), KeySource(uri="", issuer="https://b.example")
    assert store.put_key_set(one, "keys")
    assert not store.put_key_set(one, "keys")
    before = store.snapshot()
    assert store.put_key_set(other, "more")
    assert store.put_key_set(one, None)
    assert not store.put_key_set(one, None)
    assert dict(before.key_sets) == {one: "keys"}
    assert dict(store.snapshot().key_sets) == {other: "more"}
    assert heard == [key_sets.CHANGED] * 3
    silent = ConfigStore()
    assert silent.put_key_set(one, "keys")
    assert str(one) == "https://a.example"
    assert str(other) == "https://b.example/.well-known/openid-configuration"


def test_addresses_of_a_name_that_are_the_same_say_nothing() -> None:
    heard: list[ConfigKey] = []
    store = ConfigStore(heard.append)
    assert store.put_gateway_addresses("a.example", ("192.0.2.1",))
    assert not store.put_gateway_addresses("a.example", ("192.0.2.1",))
    before = store.snapshot()
    assert store.put_gateway_addresses("a.example", None)
    assert dict(before.gateway_addresses) == {"a.example": ("192.0.2.1",)}
    assert heard == [gateway_names.CHANGED] * 2
    assert ConfigStore().put_gateway_addresses("a.example", ())


def test_kinds_without_change_are_shared_between_snapshots() -> None:
    store = ConfigStore()
    store.apply(thing("x"))
    store.apply(Object.model_validate({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "a"}}))
    before = store.snapshot()
    heard: list[ConfigKey] = []
    store.listen(heard.append)
    store.apply(thing("y"))
    after = store.snapshot()
    assert before.of("", "Pod") is after.of("", "Pod")
    assert len(after.of("networking.istio.io", "Sidecar")) == 2
    assert after.of("", "Node") == {}
    assert store.of("", "Pod") is after.of("", "Pod")
    assert store.of("", "Node") == {}
    assert heard == [thing("y").key]
