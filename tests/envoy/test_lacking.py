"""What is told of proxies that are an older Envoy."""

from __future__ import annotations

from dataclasses import replace

from istiod.config.proxy import Proxy
from istiod.config.resource import ResourceSet
from istiod.envoy import lacking
from istiod.envoy.compiler import Compiler
from istiod.mesh import envoy_release
from istiod.mesh.endpoint import EndpointTable
from istiod.mesh.policy import RetryBudget, TrafficPolicy
from istiod.mesh.scope import Scope
from tests.envoy import made, rich
from tests.mesh import fleet

BUDGET = made.cluster(
    "limited", policy=TrafficPolicy(retry_budget=RetryBudget(interval=rich.SECOND)), origin=made.POLICY
)
SCOPE = made.scope([BUDGET], rich.outbound_listeners())


def old(name: str, *version: int) -> Proxy:
    proxy = fleet.proxy(name, "shop")
    return replace(proxy, node=replace(proxy.node, envoy=version))


def target(compiler: Compiler, proxy: Proxy, scope: Scope = SCOPE) -> ResourceSet:
    key = replace(scope.outbound.key, envoy=envoy_release.of(proxy.node))
    scope = replace(scope, outbound=replace(scope.outbound, key=key))
    return compiler.compile(scope, EndpointTable(), made.VIEW)


def told(*proxies: Proxy) -> list[tuple[str, str, str]]:
    compiler = Compiler()
    shared = {envoy_release.of(proxy.node): target(compiler, proxy) for proxy in proxies}
    found = lacking.findings((proxy, shared[envoy_release.of(proxy.node)]) for proxy in proxies)
    return [(each.code.value, str(each.key or ""), each.words) for each in found]


def test_the_owner_of_a_rule_is_told_and_nobody_of_what_nobody_asks_for() -> None:
    rule = "DestinationRule/default/reviews"
    interval = "CircuitBreakers.Thresholds.RetryBudget.budget_interval"
    assert told(old("new", 1, 40, 0), old("b", 1, 38, 3), old("a", 1, 36, 4), old("c", 1, 36, 10)) == [
        ("M0126", rule, f"Envoy 1.36 and 1.38 does without: {interval} (on a.shop, b.shop, c.shop)"),
        ("M0126", "", "Envoy 1.36 does without: envoy.access_loggers.stats (on a.shop, c.shop)"),
    ]
    assert told(old("new", 1, 40, 0), fleet.proxy()) == []


def test_an_untried_envoy_is_told() -> None:
    (*_, last) = told(old("a", 1, 30, 1))
    message = "Envoy is older than 1.36, the oldest one that is tested: it gets what that takes (on a.shop)"
    assert last == ("M0127", "", message)


def test_versions_that_proxies_make_up_are_no_new_findings() -> None:
    first = told(old("a", 1, 36, 4), old("b", 1, 2, 0))
    assert told(old("a", 1, 37, 10**9), old("b", 0, 7)) == first
    many = told(*(old("a", 1, 36, number) for number in range(300)))
    assert sum(len(words) for _, _, words in many) < 1000


def test_a_page_says_what_a_proxy_lacks_and_where_nothing_passes() -> None:
    assert lacking.of(target(Compiler(), old("a", 1, 38, 0))) == (
        "CircuitBreakers.Thresholds.RetryBudget.budget_interval",
    )
    assert lacking.version(old("a", 1, 38, 0)) == "1.38.0"
    policy = {
        "applyTo": "CLUSTER",
        "patch": {
            "operation": "MERGE",
            "value": {"transport_socket_matcher": {"on_no_match": {"action": {"name": "x"}}}},
        },
    }
    spec = {"configPatches": [policy]}
    filter_ = fleet.dump("networking.istio.io/v1alpha3", "EnvoyFilter", "trust", "istio-system", spec=spec)
    mesh = fleet.Mesh(fleet.kube_service("web"), filter_)
    found = Compiler().compile(mesh.scope(old("a", 1, 36, 4)), mesh.context.endpoints, made.VIEW)
    wanted = "Cluster.transport_socket_matcher (part of a policy, so nothing passes there)"
    assert wanted in lacking.of(found)
    findings = list(lacking.findings([(old("a", 1, 36, 4), found)]))
    (closed,) = (each for each in findings if each.severity.value == "error")
    assert (str(closed.key), closed.field) == ("EnvoyFilter/istio-system/trust", "spec.configPatches")
