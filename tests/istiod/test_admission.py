"""What an object is told at admission beyond its own model: fields that nothing does anything with yet."""

from __future__ import annotations

from typing import Any

import pytest

from crds.diagnostic import Code, Severity
from crds.meta import Object
from crds.parse import parse
from istiod import admission
from istiod.config.store import ConfigStore
from webhook.values import Surroundings

META = {"name": "web", "namespace": "demo"}


def rule(http: dict[str, Any]) -> dict[str, Any]:
    spec = {"hosts": ["web"], "gateways": ["absent"], "http": [http]}
    return {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": META, "spec": spec}


@pytest.mark.parametrize(
    ("given", "severity", "field"),
    [
        (
            rule({"websocketUpgrade": True, "route": [{"destination": {"host": "w"}}]}),
            Severity.WARNING,
            "spec.http[0].websocketUpgrade",
        ),
    ],
)
def test_fields_without_effect_are_said(given: dict[str, Any], severity: Severity, field: str) -> None:
    found = [each for each in admission.judge(given) if each.code is Code.NOT_SUPPORTED]
    assert [(each.severity, each.field) for each in found] == [(severity, field)]


def test_what_is_missing_beside_an_object_is_none_of_its_faults() -> None:
    assert admission.judge(rule({"delegate": {"name": "later"}})) == ()
    assert admission.judge(rule({"route": [{"destination": {"host": "nowhere", "subset": "v9"}}]})) == ()


def test_what_is_wrong_by_itself_is_said_once() -> None:
    (found,) = admission.judge(rule({"route": [{"destination": {"host": ""}}]}))
    assert found.field == "spec.http[0].route[0].destination.host"


def placed(kind: str, name: str, **more: Any) -> Object:
    """An object of the root namespace."""
    body = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "istio-system"}, **more}
    item = parse(body).object
    assert item is not None
    return item


@pytest.mark.parametrize(("said", "before", "after"), [("auto", True, False), ("true", True, True)])
def test_the_injector_follows_its_config_map_and_the_nodes_where_they_decide(
    said: str, *, before: bool, after: bool
) -> None:
    store = ConfigStore()
    told: list[object] = []
    injection = admission.Injection(store, told.append, Surroundings(native_sidecars=said))
    assert injection.config() is None
    store.apply(placed("ConfigMap", "istio-sidecar-injector", data={"values": ""}))
    for name, version, native in (("a", "v1.36.0", before), ("b", "v1.28.0", after)):
        store.apply(placed("Node", name, status={"nodeInfo": {"kubeletVersion": version}}))
        config = injection.config()
        assert config is not None
        assert config.native_sidecar is native
        assert injection.config() is config, "nothing changed"
    assert len(told) == (3 if said == "auto" else 2)


def test_the_injector_reads_shared_settings_below_the_meshs_own() -> None:
    store = ConfigStore()
    injection = admission.Injection(store, lambda _: None, Surroundings(), "istio-system", "shared")
    store.apply(placed("ConfigMap", "istio-sidecar-injector", data={"values": ""}))

    def after(name: str, mesh: str) -> tuple[str, dict[str, Any]]:
        store.apply(placed("ConfigMap", name, data={"mesh": mesh}))
        config = injection.config()
        assert config is not None
        return config.trust_domain, dict(config.proxy_config)

    assert after("shared", "{trustDomain: a, defaultConfig: {concurrency: 4}}") == ("a", {"concurrency": 4})
    assert after("istio", "{trustDomain: b}") == ("b", {"concurrency": 4})
    assert after("shared", "{defaultConfig: {concurrency: 5}}") == ("b", {"concurrency": 5})


def test_values_that_are_not_envoys_are_refused() -> None:
    patch = {"applyTo": "CLUSTER", "patch": {"operation": "ADD", "value": {"name": 3}}}
    given = {"apiVersion": "networking.istio.io/v1alpha3", "kind": "EnvoyFilter", "metadata": META}
    (found,) = admission.judge({**given, "spec": {"configPatches": [patch]}})
    assert (found.code, found.severity, found.field) == (
        Code.BAD_VALUE,
        Severity.ERROR,
        "spec.configPatches[0].patch.value",
    )
