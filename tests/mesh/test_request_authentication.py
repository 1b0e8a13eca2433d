from __future__ import annotations

from datetime import timedelta

import pytest

from crds import request_authentication as api
from crds.diagnostic import Code, Severity
from crds.parse import parse
from istiod.config.key_sets import KeySource
from istiod.config.store import ConfigStore
from istiod.features import Features, KeyFetch
from istiod.mesh import jwt, request_authentication
from istiod.mesh.jwt import Provider, Remote
from istiod.mesh.registry import Registry
from istiod.mesh.scope import Http
from istiod.mesh.settings import MeshSettings
from tests.mesh import fleet

ROOT = "istio-system"
URI = "https://keys.example/jwks"
RSA = (
    '{"keys":[{"kty":"RSA","e":"AQAB","n":"xAE7eB6qugXyCAG3yhh7pkDkT65pHymX-P7KfIupjf59vsdo91bSP9C8H07pSAGQO1MV'
    "_xFj9VswgsCg4R6otmg5PV2He95lZdHtOcU5DXIg_pbhLdKXbi66GlVeK6ABZOUW3WYtnNHD-91gVuoeJT_DwtGGcp4ignkgXfkiEm4sw-4sfb4"
    "qdt5oLbyVpmW6x9cfa7vs2WTfURiCrBoUqgBo_-4WTiULmmHSGZHOjzwa8WtrtOQGsAFjIbno85jp6MnGGGZPYZbDAa_b3y5u-YpW7ypZrvD8Bg"
    'tKVjgtQgZhLAGezMt0ua3DRrWnKqTZ0BJ_EyxOGuHJrLsn00fnMQ"}]}'
)
Rule = dict[str, object]


def policy(name: str, *rules: Rule, namespace: str = "default", app: str = "", **more: object) -> str:
    spec: dict[str, object] = {"jwtRules": list(rules)} if rules else {}
    if app:
        spec["selector"] = {"matchLabels": {"app": app}}
    if "targetRef" in more:
        spec["targetRef"] = more.pop("targetRef")
    return fleet.istio("RequestAuthentication", name, spec, namespace, **more)


def inline(issuer: str, **more: object) -> Rule:
    return {"issuer": issuer, "jwks": RSA, **more}


def mesh(*texts: str, features: Features | None = None) -> fleet.Mesh:
    pods = (fleet.pod("web-1", "10.1.0.1"), fleet.pod("web-2", "10.1.0.2", "other"))
    services = (fleet.kube_service("web"), fleet.kube_service("web", "other"))
    return fleet.Mesh(*services, *pods, *texts, features=features)


def providers(found: fleet.Mesh, name: str = "web-1", namespace: str = "default") -> jwt.Providers:
    """What the workload does about tokens: the same on every HTTP chain of its way in, and nowhere else."""
    scope = found.scope(fleet.proxy(name, namespace, ip="10.1.0.1" if name == "web-1" else "10.1.0.2"))
    assert scope.inbound is not None
    chains = scope.inbound.listeners["virtualInbound"].chains
    (same,) = {chain.http.tokens for chain in chains if chain.http}
    for listener in scope.outbound.listeners.values():
        assert not any(chain.http.tokens for chain in listener.chains if chain.http)
    return same


def issuers(found: fleet.Mesh, name: str = "web-1", namespace: str = "default") -> list[str]:
    return [one.issuer for one in providers(found, name, namespace)]


def test_without_a_policy_no_token_is_looked_at() -> None:
    assert providers(mesh()) == ()


def test_policies_of_the_root_namespace_and_of_the_workloads_own_hold_together() -> None:
    found = mesh(
        policy("all", inline("c"), namespace=ROOT),
        policy("webs", inline("b"), namespace=ROOT, app="web"),
        policy("own", inline("d"), inline("a")),
        policy("others", inline("x"), app="db"),
        policy("elsewhere", inline("y"), namespace="other"),
    )
    assert issuers(found) == ["a", "b", "c", "d"]
    assert issuers(found, "web-2", "other") == ["b", "c", "y"]
    found.remove(policy("own"))
    assert issuers(found) == ["b", "c"]


def test_of_rules_for_one_issuer_the_wider_and_then_the_oldest_come_first() -> None:
    new = policy("a", inline("i", audiences=["new"]), creationTimestamp="2024-01-02T00:00:00Z")
    old = policy("b", inline("i", audiences=["old"]), creationTimestamp="2024-01-01T00:00:00Z")
    wide = policy("z", inline("i", audiences=["wide"]), namespace=ROOT, creationTimestamp="2024-01-03T00:00:00Z")
    for texts in ((new, old, wide), (wide, old, new)):
        assert [one.audiences for one in providers(mesh(*texts))] == [("wide",), ("old",), ("new",)]


def test_every_field_of_a_rule_is_read() -> None:
    rule = inline(
        "i",
        audiences=["a", "b"],
        fromHeaders=[{"name": "x-a", "prefix": "JWT "}, {"name": "x-b"}],
        fromParams=["t"],
        fromCookies=["c"],
        outputPayloadToHeader="x-payload",
        forwardOriginalToken=True,
        outputClaimToHeaders=[{"header": "x-user", "claim": "sub"}, {"header": "x-role", "claim": "realm.role"}],
        spaceDelimitedClaims=["roles", "scope"],
        presence="REQUIRED",
    )
    assert providers(mesh(policy("p", rule))) == (
        Provider(
            issuer="i",
            keys=RSA,
            audiences=("a", "b"),
            headers=(("x-a", "JWT "), ("x-b", "")),
            params=("t",),
            cookies=("c",),
            payload_header="x-payload",
            forward=True,
            claim_headers=(("x-user", "sub"), ("x-role", "realm.role")),
            space_delimited=("permission", "roles", "scope"),
            required=True,
        ),
    )


def test_keys_are_those_that_were_fetched_and_nobodys_until_then() -> None:
    found = mesh(policy("p", {"issuer": "i", "jwksUri": URI}), policy("q", {"issuer": "https://j.example"}))
    assert [one.keys for one in providers(found)] == [jwt.NOBODYS, jwt.NOBODYS]
    before = found.context
    found.put_keys(URI, "fetched")
    assert [one.keys for one in providers(found)] == [jwt.NOBODYS, "fetched"]
    assert found.context.model is not before.model
    found.put_keys("", "discovered", issuer="https://j.example")
    assert [one.keys for one in providers(found)] == ["discovered", "fetched"]
    found.put_keys(URI, None)
    assert [one.keys for one in providers(found)] == ["discovered", jwt.NOBODYS]
    model = found.context.model
    found.put_keys("https://nobody.asks.example", "more")
    assert found.context.model is model


def test_what_has_to_be_fetched_is_said_once_with_all_who_want_it() -> None:
    found = mesh(
        policy("a", {"issuer": "i", "jwksUri": URI}, inline("j"), {"issuer": "k"}),
        policy("b", {"issuer": "m", "jwksUri": URI, "timeout": "9s"}, {"issuer": "https://o.example"}),
        policy("c", {"issuer": "i", "jwksUri": URI, "timeout": "1s"}, namespace="other"),
    )
    wishes = found.context.model.tokens.wishes
    assert {source: wish.timeout.total_seconds() for source, wish in wishes.items()} == {
        KeySource(uri=URI): 9.0,
        KeySource(uri="", issuer="https://o.example"): 5.0,
    }
    assert [(key.name, place) for key, place in wishes[KeySource(uri=URI)].places] == [
        ("a", "spec.jwtRules[0]"),
        ("b", "spec.jwtRules[0]"),
        ("c", "spec.jwtRules[0]"),
    ]
    assert request_authentication.first_wishes(found._store.snapshot()) == wishes


@pytest.mark.parametrize("issuer", ["i", "https://", "ftp://a.example", "https://[::1", "https://a\n.example", "urn:x"])
def test_an_issuer_that_is_no_url_and_has_no_keys_is_told(issuer: str) -> None:
    found = mesh(policy("p", {"issuer": issuer}))
    assert found.told() == [("MISSING_FIELD", "p", "spec.jwtRules[0].jwksUri")]
    assert [one.keys for one in providers(found)] == [jwt.NOBODYS]


def test_what_has_no_effect_is_told() -> None:
    target = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "g"}
    found = mesh(policy("empty"), policy("target", inline("i"), targetRef=target))
    assert [(d.code.name, d.key and d.key.name, d.field, d.severity) for d in found.context.diagnostics] == [
        ("INEFFECTIVE", "empty", "spec.jwtRules", Severity.WARNING),
        ("INEFFECTIVE", "target", "spec.targetRef", Severity.ERROR),
    ]
    assert providers(found) == ()
    assert "target" not in str(found.context.model.tokens.by_namespace)


IDP = fleet.kube_service("idp", "auth")


@pytest.mark.parametrize("host", ["idp.auth", "idp.auth.svc", "idp.auth.svc.cluster.local"])
@pytest.mark.parametrize("mode", [KeyFetch.HYBRID, KeyFetch.ENVOY])
def test_proxies_fetch_keys_of_the_meshs_services_where_the_operator_wants_it(mode: KeyFetch, host: str) -> None:
    uri = f"http://{host}:80/keys"
    rule: Rule = {"issuer": "i", "jwksUri": uri, "timeout": "3s"}
    found = mesh(
        IDP, policy("p", rule, inline("j"), {"issuer": "https://k.example"}), features=Features(key_fetch=mode)
    )
    remote = Remote(uri=uri, cluster="outbound|80||idp.auth.svc.cluster.local", timeout=timedelta(seconds=3))
    assert [(one.remote, one.keys) for one in providers(found)] == [
        (None, jwt.NOBODYS),
        (remote, ""),
        (None, RSA),
    ]
    assert list(found.context.model.tokens.wishes) == [KeySource(uri="", issuer="https://k.example")]
    assert found.told() == []


def test_a_host_that_no_service_has_is_asked_by_istiod_in_mode_hybrid_and_by_nobody_in_mode_envoy() -> None:
    rule: Rule = {"issuer": "i", "jwksUri": URI}
    hybrid = mesh(policy("p", rule), features=Features(key_fetch=KeyFetch.HYBRID))
    assert [one.remote for one in providers(hybrid)] == [None]
    assert list(hybrid.context.model.tokens.wishes) == [KeySource(uri=URI)]
    alone = mesh(policy("p", rule), features=Features(key_fetch=KeyFetch.ENVOY))
    assert [one.remote and one.remote.cluster for one in providers(alone)] == ["outbound|443||keys.example"]
    assert alone.told() == [("UNKNOWN_HOST", "p", "spec.jwtRules[0].jwksUri")]
    entry = {"hosts": ["keys.example"], "ports": [{"number": 443, "name": "https"}], "resolution": "DNS"}
    alone.apply(fleet.istio("ServiceEntry", "keys", entry))
    assert alone.told() == []


GATEWAY = fleet.istio(
    "Gateway",
    "gw",
    {"selector": {"app": "gw"}, "servers": [{"port": {"number": 80, "protocol": "HTTP", "name": "h"}, "hosts": ["*"]}]},
)
RULES = fleet.istio(
    "VirtualService",
    "r",
    {"hosts": ["*"], "gateways": ["gw"], "http": [{"route": [{"destination": {"host": "web"}}]}]},
)


def router(found: fleet.Mesh, app: str = "gw") -> list[Http]:
    scope = found.scope(fleet.proxy("gw-1", "default", "router", LABELS={"app": "gw", "own": app}))
    return [chain.http for one in scope.outbound.listeners.values() for chain in one.chains if chain.http]


def test_gateways_look_at_tokens_by_their_labels_and_have_the_clusters_of_keys() -> None:
    chosen = fleet.istio(
        "RequestAuthentication",
        "p",
        {
            "selector": {"matchLabels": {"own": "x"}},
            "jwtRules": [{"issuer": "i", "jwksUri": "http://idp.auth:80/"}, inline("j")],
        },
    )
    found = mesh(GATEWAY, RULES, IDP, chosen, features=Features(key_fetch=KeyFetch.HYBRID))
    assert [[one.issuer for one in http.tokens] for http in router(found, "x")] == [["i", "j"]]
    assert [http.tokens for http in router(found, "y")] == [()]
    scope = found.scope(fleet.proxy("gw-1", "default", "router", LABELS={"app": "gw", "own": "x"}))
    assert "outbound|80||idp.auth.svc.cluster.local" in scope.outbound.clusters
    found.remove(chosen)
    assert [http.tokens for http in router(found, "x")] == [()]


def test_a_name_that_is_gone_stands_for_nothing() -> None:
    assert mesh().context.model.tokens.named(("default/none",)) == ()


@pytest.mark.parametrize(
    ("spec", "selector", "required"),
    [
        ({"jwtRules": 1}, None, False),
        ("nothing", None, False),
        ({"selector": {"matchLabels": {"app": "web"}}, "jwtRules": [{"issuer": 1}, 2]}, {"app": "web"}, False),
        (
            {"selector": {"matchLabels": {"app": 1}}, "jwtRules": [{"presence": "REQUIRED", "x": 1, "issuer": 2}]},
            None,
            True,
        ),
        ({"targetRef": {"kind": 1}, "jwtRules": []}, None, False),
    ],
)
def test_what_cannot_be_read_makes_every_token_a_bad_one(
    spec: object, selector: dict[str, str] | None, *, required: bool
) -> None:
    """An app must not be handed a token that it takes for checked."""
    meta = {"name": "a", "namespace": "default"}
    document = {"apiVersion": "security.istio.io/v1", "kind": "RequestAuthentication", "metadata": meta, "spec": spec}
    found = parse(document)
    assert found.object is None
    assert isinstance(found.stand_in, api.RequestAuthentication)
    chosen = found.stand_in.spec.selector
    assert (chosen.match_labels if chosen else None) == selector
    store = ConfigStore()
    store.apply(found.stand_in)
    index = request_authentication.build(
        store.snapshot(), MeshSettings(), Registry(), request_authentication.RequestAuthenticationIndex()
    )
    of_targets = isinstance(spec, dict) and "targetRef" in spec
    assert [each.code for each in index.findings] == ([Code.INEFFECTIVE] if of_targets else [])
    made = index.of_workload("default", frozenset({("app", "web")}))
    assert [(each.issuer, each.keys, each.required) for each in made] == [("", jwt.NOBODYS, required)] * (
        not of_targets
    )


def of_uri(name: str, issuer: str, **more: object) -> api.RequestAuthentication:
    """An object whose keys somebody has to fetch."""
    rule = {"issuer": issuer, "jwksUri": f"{issuer}/keys", **more}
    meta = {"name": name, "namespace": "default"}
    kind = {"apiVersion": "security.istio.io/v1", "kind": "RequestAuthentication", "metadata": meta}
    made = parse({**kind, "spec": {"jwtRules": [rule]}}).object
    assert isinstance(made, api.RequestAuthentication)
    return made


def test_an_object_that_did_not_change_is_not_read_again() -> None:
    store, settings = ConfigStore(), MeshSettings()
    index = request_authentication.RequestAuthenticationIndex()

    def kept(settings: MeshSettings, registry: Registry) -> list[str]:
        """Names of those that were not read again."""
        nonlocal index
        before = index.by_namespace.get("default", ())
        index = request_authentication.build(store.snapshot(), settings, registry, index)
        return [one.key.name for one in index.by_namespace["default"] if any(one is other for other in before)]

    registry = Registry()
    for each in (of_uri("a", "https://a.x"), of_uri("b", "https://b.x", timeout="9s"), of_uri("c", "https://b.x")):
        store.apply(each)
    assert kept(settings, registry) == []
    store.apply(of_uri("a", "https://a.x", audiences=["x"]))
    assert kept(settings, registry) == ["b", "c"]
    fetched = KeySource(uri="https://b.x/keys")
    assert (index.wishes[fetched].timeout, len(index.wishes[fetched].places)) == (timedelta(seconds=9), 2)
    store.put_key_set(fetched, RSA)
    assert kept(settings, Registry()) == ["a"]
    by_envoy = MeshSettings(features=Features(key_fetch=KeyFetch.ENVOY))
    assert kept(by_envoy, registry) == []
    store.remove(of_uri("a", "https://a.x").key)
    assert kept(by_envoy, registry) == ["b", "c"]
