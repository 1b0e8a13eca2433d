"""ProxyConfig objects: which of them a pod starts with, and what is wrong with one (features row K5)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from crds import parse
from crds.proxy_config_object import ProxyConfig
from istiod import admission
from istiod.config.store import ConfigStore
from node import system
from webhook import proxy_configs
from webhook.settings import InjectionConfig
from webhook.values import Surroundings
from wire import names

LABELS = {"app": "web", "tier": "front"}


def document(name: str, spec: Mapping[str, Any], namespace: str = "demo", created: str = "") -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace, **({"creationTimestamp": created} if created else {})}
    return {"apiVersion": "networking.istio.io/v1beta1", "kind": "ProxyConfig", "metadata": metadata, "spec": spec}


def item(*given: Any, **more: Any) -> ProxyConfig:
    found = parse.parse(document(*given, **more)).object
    assert isinstance(found, ProxyConfig)
    return found


def told(spec: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(one.code.name, one.field) for one in parse.parse(document("a", spec)).diagnostics]


def effective(*items: ProxyConfig, namespace: str = "demo", **mesh: Any) -> Mapping[str, object]:
    config = InjectionConfig(proxy_config=mesh, scoped=proxy_configs.read(items))
    return proxy_configs.effective(config, namespace, LABELS)


def threads(count: int, **more: Any) -> dict[str, Any]:
    return {"concurrency": count, **more}


def test_the_narrower_object_wins_and_variables_add_up() -> None:
    selects = {"selector": {"matchLabels": {"app": "web"}}}
    everybody = item("all", threads(1, environmentVariables={"A": "all", "B": "all"}), namespace=names.ROOT_NAMESPACE)
    home = item("home", {"environmentVariables": {"B": "home", "C": "home"}, "image": {"imageType": "debug"}})
    own = item("own", threads(3, environmentVariables={"C": "own"}, **selects))
    assert effective(own, home, everybody, concurrency=9, proxyMetadata={"M": "mesh"}) == {
        "concurrency": 3,
        "image": {"imageType": "debug"},
        "proxyMetadata": {"M": "mesh", "A": "all", "B": "home", "C": "own"},
    }
    assert effective(own, home, everybody, namespace="other") == {
        "concurrency": 1,
        "proxyMetadata": {"A": "all", "B": "all"},
    }
    assert effective(everybody, namespace=names.ROOT_NAMESPACE)["concurrency"] == 1


def test_objects_that_select_others_or_say_nothing_change_nothing() -> None:
    other = item("other", threads(3, selector={"matchLabels": {"app": "db"}}))
    assert effective(other, item("empty", {"image": {}}), concurrency=2) == {"concurrency": 2}


def test_of_two_of_one_width_the_oldest_wins() -> None:
    young = item("a", threads(1), created="2024-02-01T00:00:00Z")
    old = item("b", threads(2), created="2024-01-01T00:00:00Z")
    assert effective(young, old) == {"concurrency": 2}


def test_what_a_pod_could_not_start_with_is_left_out_and_told() -> None:
    given = {"concurrency": -1, "environmentVariables": {"no name": "x", "CA_PROVIDER": "x", "FINE": "y"}}
    assert told(given) == [
        ("BAD_VALUE", "spec.concurrency"),
        ("BAD_VALUE", 'spec.environmentVariables["no name"]'),
        ("NOT_SUPPORTED", "spec.environmentVariables.CA_PROVIDER"),
    ]
    assert told({"concurrency": 0, "image": {"imageType": "debug"}}) == []
    assert told({"selector": {"matchLabels": {"a": "*"}}}) == [("BAD_VALUE", "spec.selector.matchLabels.a")]
    assert told({"selector": {"matchLabels": {"a": "b"}}}) == []
    broken = item("a", {"environmentVariables": given["environmentVariables"]}).model_copy(deep=True)
    spec = broken.spec.model_copy(update={"concurrency": -1})
    (found,) = proxy_configs.read([broken.model_copy(update={"spec": spec})])
    assert found.settings == {"proxyMetadata": {"CA_PROVIDER": "x", "FINE": "y"}}


@pytest.mark.parametrize("annotated", [False, True])
def test_the_mesh_of_this_machine_starts_pods_with_them(*, annotated: bool) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": "app", "image": "app"}]}}
    metadata: dict[str, Any] = {"name": "web-1", "namespace": "demo", "labels": LABELS}
    if annotated:
        metadata["annotations"] = {"proxy.istio.io/config": "{concurrency: 5}"}
    space = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "demo", "labels": {"istio-injection": "enabled"}},
    }
    objects = {
        parse.parse(raw).key: raw for raw in (space, document("a", threads(4, environmentVariables={"SAID": "yes"})))
    }
    made, findings = system.injected({**pod, "metadata": metadata}, {key: raw for key, raw in objects.items() if key})
    assert made is not None
    assert findings == ()
    (proxy,) = (one for one in made["spec"]["containers"] if one["name"] == "istio-proxy")
    env = {one["name"]: one.get("value") for one in proxy["env"]}
    assert env["SAID"] == "yes"
    assert json.loads(env["PROXY_CONFIG"])["concurrency"] == (5 if annotated else 4)


def test_the_injector_follows_the_objects_of_the_cluster() -> None:
    store = ConfigStore()
    injection = admission.Injection(store, lambda _: None, Surroundings())
    values = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"values": ""}}
    where = {"name": "istio-sidecar-injector", "namespace": names.ROOT_NAMESPACE}
    held = parse.parse({**values, "metadata": where}).object
    assert held is not None
    store.apply(held)
    before = injection.config()
    assert before is not None
    assert before.scoped == ()
    store.apply(item("a", threads(2)))
    after = injection.config()
    assert after is not None
    assert replace(after, scoped=()) == before
    assert proxy_configs.effective(after, "demo", {}) == {"concurrency": 2}
    assert injection.config() is after, "nothing changed"
