"""Which policies hold for a workload, and what they come to."""

from __future__ import annotations

import pytest
import yaml

from crds.attributes import Attribute
from crds.diagnostic import Diagnostic
from istiod.mesh import authorization, authorization_rules, ext_authz, inbound, mesh_config
from istiod.mesh.authorization import AuthorizationIndex, RuleSet
from istiod.mesh.authorization_rules import Rule
from istiod.mesh.context import MeshContext, build
from istiod.mesh.inbound import Place
from istiod.mesh.recall import Recall
from istiod.mesh.scope import Chain
from tests.mesh import fleet, world

ROOT = "istio-system"
WEB = frozenset({("app", "web"), ("version", "v1")})
PROVIDERS = {
    "extensionProviders": [
        {"name": "sample", "envoyExtAuthzGrpc": {"service": "authz/ext-authz.authz.svc.cluster.local", "port": 9000}},
        {"name": "http", "envoyExtAuthzHttp": {"service": "ext-authz.authz.svc.cluster.local", "port": 8000}},
        {"name": "logs", "envoyFileAccessLog": {"path": "/dev/stdout"}},
    ]
}
SERVICE = fleet.dump(
    "v1", "Service", "ext-authz", "authz", spec={"ports": [{"name": "grpc", "port": 9000}], "clusterIP": "10.0.0.9"}
)


def policy(name: str, spec: dict[str, object] | None = None, namespace: str = "default", **more: object) -> str:
    return fleet.istio("AuthorizationPolicy", name, {} if spec is None else spec, namespace, **more)


def settings(**said: object) -> str:
    text = yaml.safe_dump(said)
    return fleet.dump("v1", "ConfigMap", "istio", ROOT, data={"mesh": text})


def mesh(*texts: str, before: MeshContext | None = None) -> MeshContext:
    snapshot = world.snapshot(*texts)
    changed = frozenset() if before is None else frozenset(item.key for item in snapshot)
    return build(snapshot, before, changed)


def index(*texts: str) -> AuthorizationIndex:
    return mesh(*texts).model.authorizations


def held(*texts: str, namespace: str = "default") -> list[str]:
    return [one.key.name for one in index(*texts).of_workload(namespace, WEB)]


@pytest.mark.parametrize(
    ("texts", "names"),
    [
        ((), []),
        ((policy("all", namespace=ROOT), policy("b"), policy("a")), ["all", "a", "b"]),
        ((policy("other", namespace="other"),), []),
        ((policy("web", {"selector": {"matchLabels": {"app": "web"}}}),), ["web"]),
        ((policy("v2", {"selector": {"matchLabels": {"app": "web", "version": "v2"}}}, ROOT),), []),
        ((policy("empty", {"selector": {}}),), ["empty"]),
        ((policy("service", {"targetRefs": [{"kind": "Service", "name": "web"}]}),), []),
        ((policy("gateway", {"targetRef": {"kind": "Gateway", "name": "web"}}),), []),
    ],
)
def test_which_policies_hold_for_a_workload(texts: tuple[str, ...], names: list[str]) -> None:
    assert held(*texts) == names


def test_in_the_root_namespace_a_policy_holds_once() -> None:
    assert held(policy("all", namespace=ROOT), namespace=ROOT) == ["all"]


def chosen(*texts: str) -> authorization.Authorization:
    found = index(*texts).choose("default", WEB, Recall())
    assert found is not None
    return found


def names(rules: tuple[Rule, ...] | None) -> list[str] | None:
    return None if rules is None else [one.name for one in rules]


def test_policies_of_one_action_are_put_together_and_trials_stand_apart() -> None:
    trial = policy("try", {"rules": [{}]}, annotations={"istio.io/dry-run": "true"})
    enforced = policy("no-trial", {"action": "DENY", "rules": [{}, {}]}, annotations={"istio.io/dry-run": "false"})
    found = chosen(trial, enforced, policy("audit", {"action": "AUDIT", "rules": [{}]}))
    assert names(found.deny.enforced) == [
        "ns[default]-policy[no-trial]-rule[0]",
        "ns[default]-policy[no-trial]-rule[1]",
    ]
    assert (names(found.allow.enforced), names(found.allow.tried)) == (None, ["ns[default]-policy[try]-rule[0]"])
    assert names(found.audit.enforced) == ["ns[default]-policy[audit]-rule[0]"]
    assert not RuleSet()


def test_without_policies_there_is_nothing_to_enforce() -> None:
    assert index().choose("default", WEB, Recall()) is None


def custom(name: str, provider: str = "sample", spec: dict[str, object] | None = None) -> str:
    return policy(name, {"action": "CUSTOM", "provider": {"name": provider}, "rules": [{}], **(spec or {})})


def test_a_provider_is_asked_where_its_service_is_known() -> None:
    (asked,) = chosen(settings(**PROVIDERS), SERVICE, custom("a"), custom("b")).asked
    assert (asked.provider.cluster, asked.provider.problem) == (
        "outbound|9000||ext-authz.authz.svc.cluster.local",
        "",
    )
    assert len(asked.rules) == 2


def told(*texts: str) -> list[tuple[str, str, str]]:
    return [(one.code.name, one.key.name if one.key else "", one.message) for one in found(*texts)]


def found(*texts: str) -> list[Diagnostic]:
    return [one for one in mesh(*texts).diagnostics if one.key and one.key.kind == "AuthorizationPolicy"]


@pytest.mark.parametrize(
    ("texts", "problem"),
    [
        ((custom("a"),), "the mesh configuration has no provider 'sample' that decides"),
        ((settings(**PROVIDERS), custom("a", "logs")), "the mesh configuration has no provider 'logs' that decides"),
        ((settings(**PROVIDERS), custom("a")), "no service authz/ext-authz.authz.svc.cluster.local is in the mesh"),
    ],
)
def test_a_provider_that_cannot_be_asked_is_told(texts: tuple[str, ...], problem: str) -> None:
    (asked,) = chosen(*texts).asked
    assert asked.provider.problem == problem
    assert chosen(*texts).clusters == ()
    assert told(*texts) == [
        ("UNKNOWN_PROVIDER", "a", f"{problem}; until it can be asked, what matches is refused"),
    ]


def test_of_several_providers_none_is_asked() -> None:
    several = chosen(settings(**PROVIDERS), SERVICE, custom("a"), custom("b", "http")).asked
    assert [(one.provider.name, one.provider.problem) for one in several] == [
        ("http", "policies name 2 providers for one workload"),
        ("sample", "policies name 2 providers for one workload"),
    ]


def test_policies_for_resources_are_told_to_have_no_effect() -> None:
    (one,) = found(policy("gateway", {"targetRef": {"kind": "Gateway", "name": "web"}, "rules": [{}]}))
    assert (one.code.name, one.field) == ("NOT_SUPPORTED", "")


HTTP = {"service": "a", "port": 80}


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"port": 0}, "port 0 is not in the range 1 to 65535"),
        ({"service": ""}, "service must be given"),
        ({"statusOnError": "999"}, "statusOnError '999' is no HTTP status"),
        ({"statusOnError": "0"}, "statusOnError '0' is no HTTP status"),
        ({"timeout": "0s"}, "timeout must be more than nothing"),
        ({"pathPrefix": "a"}, "pathPrefix must begin with /"),
        ({"headersToUpstreamOnAllow": ["*"]}, "a header is neither empty nor *"),
        ({"includeAdditionalHeadersInCheck": {"": "a"}}, "an additional header has no name"),
        ({"includeRequestBodyInCheck": {}}, "includeRequestBodyInCheck.maxRequestBytes must be given"),
    ],
)
def test_what_is_wrong_with_a_provider(said: dict[str, object], problem: str) -> None:
    text = settings(extensionProviders=[{"name": "a", "envoyExtAuthzHttp": {**HTTP, **said}}])
    (provider,) = mesh_config.read(world.snapshot(text), None)[0].ext_authz
    assert provider.problem == problem


def test_a_provider_is_read_with_all_its_fields() -> None:
    text = settings(
        extensionProviders=[
            {
                "name": "a",
                "envoyExtAuthzHttp": {
                    **HTTP,
                    "includeHeadersInCheck": ["old"],
                    "includeAdditionalHeadersInCheck": {"b": "2", "a": "1"},
                    "includeRequestBodyInCheck": {"maxRequestBytes": 9, "packAsBytes": True},
                    "statusOnError": "503",
                    "failOpen": True,
                },
            }
        ]
    )
    (one,) = mesh_config.read(world.snapshot(text), None)[0].ext_authz
    assert one.http is not None
    assert (one.http.request_headers, one.http.additional_headers) == (("old",), (("a", "1"), ("b", "2")))
    assert (one.body, one.status_on_error, one.fail_open) == (ext_authz.Body(most_bytes=9, as_bytes=True), 503, True)


def test_two_providers_of_one_name_cannot_be_asked() -> None:
    twice = [{"name": "a", "envoyExtAuthzGrpc": HTTP}] * 2
    (one,) = mesh_config.read(world.snapshot(settings(extensionProviders=twice)), None)[0].ext_authz
    assert "two providers of this name" in one.problem


def test_a_port_that_the_provider_does_not_have_refuses_although_failing_lets_in() -> None:
    said = {**HTTP, "service": "ext-authz.authz.svc.cluster.local", "port": 9001, "failOpen": True}
    provider = settings(extensionProviders=[{"name": "a", "envoyExtAuthzHttp": said}])
    (asked,) = chosen(provider, SERVICE, custom("c", "a")).asked
    assert asked.provider.problem == "ext-authz.authz.svc.cluster.local has no port 9001"


def test_a_host_of_several_namespaces_needs_its_namespace() -> None:
    entry = {"hosts": ["a.example"], "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}], "resolution": "DNS"}
    texts = (fleet.istio("ServiceEntry", "a", entry, "one"), fleet.istio("ServiceEntry", "a", entry, "two"))
    provider = settings(extensionProviders=[{"name": "a", "envoyExtAuthzHttp": {**HTTP, "service": "a.example"}}])
    (asked,) = chosen(provider, *texts, custom("c", "a")).asked
    assert asked.provider.problem == "a.example is in namespaces one, two; write NAMESPACE/a.example"
    assert mesh_config.read(world.snapshot(settings(**PROVIDERS)), None)[1] == ()


DOMAINS = ("new", "old-td")


@pytest.mark.parametrize(
    ("principal", "wanted"),
    [
        ("*", ["*"]),
        ("cluster.local/ns/a/sa/b", ["new/ns/a/sa/b", "old-td/ns/a/sa/b"]),
        ("old-td/ns/a/sa/b", ["new/ns/a/sa/b", "old-td/ns/a/sa/b"]),
        ("*-td/ns/a/sa/b", ["new/ns/a/sa/b", "*-td/ns/a/sa/b"]),
        ("ne*/ns/a/sa/b", ["new/ns/a/sa/b", "old-td/ns/a/sa/b"]),
        ("foreign/ns/a/sa/b", ["foreign/ns/a/sa/b"]),
        ("*/ns/a/sa/b", ["*/ns/a/sa/b"]),
        ("a/b", ["a/b"]),
    ],
)
def test_principals_of_the_mesh_hold_in_all_its_trust_domains(principal: str, wanted: list[str]) -> None:
    found = chosen(
        settings(trustDomain="new", trustDomainAliases=["old-td"]),
        policy("a", {"rules": [{"from": [{"source": {"principals": [principal], "notPrincipals": [principal]}}]}]}),
    )
    assert found.allow.enforced is not None
    ((condition,),) = found.allow.enforced[0].callers
    assert (list(condition.values), list(condition.not_values)) == (wanted, wanted)


def test_accounts_are_of_the_policys_namespace_and_trust_domains_of_the_mesh() -> None:
    source = {"serviceAccounts": ["a", "b/c"], "trustDomains": ["cluster.local", "new", "foreign"]}
    (rule,) = authorization_rules.rules(_read({"rules": [{"from": [{"source": source}]}]}), DOMAINS)
    ((accounts, domains),) = rule.callers
    assert (accounts.values, domains.values) == (("default/a", "b/c"), ("cluster.local", "new", "old-td", "foreign"))


def _read(spec: dict[str, object]) -> authorization.api.AuthorizationPolicy:
    (item,) = world.objects(policy("a", spec))
    assert isinstance(item, authorization.api.AuthorizationPolicy)
    return item


def test_what_has_no_meaning_is_left_out_and_known() -> None:
    spec = {
        "rules": [
            {
                "from": [{"source": {"ipBlocks": ["x", "1.2.3.4"]}}, {}],
                "to": [{"operation": {"ports": ["http"], "paths": ["/{*}x", "/a"]}}, {}],
                "when": [{"key": "source.color", "values": ["red"]}, {"key": "connection.sni", "values": ["a"]}],
            },
            {"when": [{"key": "source.namespace", "values": ["a"]}]},
        ]
    }
    broken, whole = authorization_rules.rules(_read(spec), DOMAINS)
    assert broken.broken
    assert not whole.broken
    assert [[one.values for one in part] for part in broken.callers] == [[("1.2.3.4",)], []]
    assert [[one.attribute for one in part] for part in broken.operations] == [
        [Attribute.PATH, Attribute.DESTINATION_PORT, Attribute.SNI],
        [Attribute.SNI],
    ]


def test_an_unchanged_policy_is_the_same_object_and_so_is_what_policies_come_to() -> None:
    recall, one = Recall(), policy("a", {"rules": [{}]})
    snapshot = world.snapshot(one)
    first = build(snapshot)
    items = [*snapshot, *world.objects(policy("b", namespace="other"))]
    second = build(world.holding(items), first, frozenset(item.key for item in items))
    before, after = first.model.authorizations, second.model.authorizations
    assert before is not after
    assert before.choose("default", WEB, recall) is after.choose("default", WEB, recall)
    assert before.inputs("default") == after.inputs("default")
    third = build(world.holding(items), second, frozenset({items[0].key}))
    assert third.model is second.model
    alias = build(world.holding([*items, *world.objects(settings(trustDomainAliases=["x"]))]), second, frozenset())
    assert alias.model.authorizations.domains == ("cluster.local",)


def test_every_way_in_is_guarded_but_the_one_that_closes() -> None:
    model = mesh(policy("a")).model
    place = Place(namespace="default", labels=WEB, ports={}, addresses=("10.0.0.1",))
    shape = inbound.shape(model, place)
    listeners = inbound.scope(shape, model.settings).listeners
    chains: list[Chain] = [one for each in listeners.values() for one in each.chains]
    guards = {one.name: (one.http or one.tcp).authorization for one in chains}  # type: ignore[union-attr]  # each has one
    assert guards.pop("virtualInbound-blackhole") is None
    assert set(guards.values()) == {shape.authorization}
    assert shape.authorization is not None


GATEWAY = fleet.istio(
    "Gateway",
    "gw",
    {
        "selector": {"istio": "ingressgateway"},
        "servers": [
            {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]},
            {"port": {"number": 90, "name": "tcp", "protocol": "TCP"}, "hosts": ["*"]},
        ],
    },
    ROOT,
)
TCP = fleet.istio(
    "VirtualService",
    "tcp",
    {
        "hosts": ["*"],
        "gateways": [f"{ROOT}/gw"],
        "tcp": [{"route": [{"destination": {"host": "ext-authz.authz.svc.cluster.local", "port": {"number": 9000}}}]}],
    },
    ROOT,
)


def test_gateways_are_guarded_and_know_whom_to_ask() -> None:
    ask = policy("a", {"action": "CUSTOM", "provider": {"name": "sample"}, "rules": [{}]}, ROOT)
    lives = fleet.Mesh(settings(**PROVIDERS), SERVICE, GATEWAY, TCP, ask)
    scope = lives.scope(fleet.proxy("gw-1", ROOT, "router", LABELS={"istio": "ingressgateway"}))
    chains = [one for each in scope.outbound.listeners.values() for one in each.chains]
    assert all((one.http or one.tcp).authorization for one in chains)  # type: ignore[union-attr]  # each has one
    assert {bool(one.http) for one in chains} == {True, False}
    assert "outbound|9000||ext-authz.authz.svc.cluster.local" in scope.outbound.clusters


def test_a_policy_about_principals_guards_the_chain_on_which_callers_prove_who_they_are() -> None:
    """SEC58: at a gateway that ends the mesh's mTLS, and on plaintext beside it."""
    servers = [
        {"port": {"number": 443, "name": "s", "protocol": "HTTPS"}, "hosts": ["*"], "tls": {"mode": "ISTIO_MUTUAL"}},
        {"port": {"number": 80, "name": "p", "protocol": "HTTP"}, "hosts": ["*"]},
    ]
    chosen = {"istio": "ingressgateway"}
    door = fleet.istio("Gateway", "gw", {"selector": chosen, "servers": servers}, ROOT)
    callers = {"rules": [{"from": [{"source": {"principals": ["cluster.local/ns/a/sa/b"]}}]}]}
    lives = fleet.Mesh(door, policy("callers", callers, ROOT))
    found = lives.scope(fleet.proxy("gw-1", ROOT, "router", LABELS=chosen)).outbound.listeners
    secure, plain = found["0.0.0.0_443"].chains[0], found["0.0.0.0_80"].chains[0]
    assert secure.tls is not None
    assert (secure.tls.workload, secure.tls.mutual) == (True, True)
    guards = [chain.http.authorization for chain in (secure, plain) if chain.http]
    assert guards[0] is not None
    assert guards[0] == guards[1]
    (only,) = guards[0].allow.enforced or ()
    assert only.name == "ns[istio-system]-policy[callers]-rule[0]"
