from __future__ import annotations

from crds.key import ConfigKey
from crds.meta import Object
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
