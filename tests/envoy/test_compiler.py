"""The compiler: what is compiled when, what is shared, what differs."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2
from hypothesis import given
from hypothesis import strategies as st

from istiod.config.resource import EMPTY, ResourceSet
from istiod.envoy.assignments import Host
from istiod.envoy.compiler import OLDER, ROUTES, VIRTUAL_HOST, Compiler, lost
from istiod.mesh.endpoint import EndpointTable
from istiod.mesh.envoy_release import Release
from istiod.mesh.policy import LbAlgorithm, LoadBalancer, LocalityLb, RetryBudget, TrafficPolicy
from istiod.mesh.scope import Cluster, Credential, Discovery, Listener, Scope
from tests.envoy import made, oracle, rich
from wire import names

RANDOM = TrafficPolicy(load_balancer=LoadBalancer(algorithm=LbAlgorithm.RANDOM))
REVIEWS, RATINGS = made.cluster("reviews"), made.cluster("ratings")
ENDPOINTS = made.endpoints(reviews=made.leaf(made.endpoint()), ratings=made.leaf(made.endpoint("10.0.0.2")))


def with_leaf(table: EndpointTable, name: str, *addresses: str) -> EndpointTable:
    leaf = made.leaf(*(made.endpoint(address) for address in addresses))
    return EndpointTable(leaves={**table.leaves, (made.host(name), "default"): leaf})


def everything(resources: ResourceSet) -> dict[str, bytes]:
    return {
        f"{type_url}/{each.name}": each.delta_frame for type_url in resources.layers for each in resources.of(type_url)
    }


def agree(compiler: Compiler, before: ResourceSet, after: ResourceSet) -> dict[str, frozenset[str]]:
    """What changed, checked against the slow way of finding it."""
    found = dict(compiler.changed(before, after))
    assert found == oracle.changed(before, after)
    return found


def test_a_set_holds_everything_of_its_scope() -> None:
    found = Compiler().compile(rich.scope(), ENDPOINTS, made.VIEW)
    assert found.count(names.CLUSTER) == len(rich.clusters())
    assert {each.name for each in found.of(names.LISTENER)} == {
        "virtualOutbound",
        "0.0.0.0_9080",
        "10.96.0.1_5432",
        "0.0.0.0_8443",
        "virtualInbound",
    }
    assert [each.name for each in found.of(names.ROUTE)] == ["9080"]
    assert found.get(names.ENDPOINT, made.cluster_name("reviews")) is not None
    assert found.get(names.ENDPOINT, "PassthroughCluster") is None


def test_every_name_in_a_listener_or_route_is_there() -> None:
    found = Compiler().compile(rich.scope(), ENDPOINTS, made.VIEW)
    for each in (*found.of(names.LISTENER), *found.of(names.ROUTE), *found.of(names.CLUSTER)):
        for type_url, wanted in each.refs.items():
            assert type_url == names.SECRET or all(found.get(type_url, name) for name in wanted), each.name


def test_the_same_scope_is_the_same_set_and_compiles_nothing_more() -> None:
    compiler, scope = Compiler(), made.scope([REVIEWS], tables=[made.table()])
    first = compiler.compile(scope, ENDPOINTS, made.VIEW)
    counted = compiler.compiled.copy()
    assert compiler.compile(scope, ENDPOINTS, made.VIEW) is first
    again = made.scope([REVIEWS], tables=scope.outbound.routes.values(), settings=replace(made.SETTINGS))
    assert compiler.compile(again, ENDPOINTS, made.VIEW) is first
    assert compiler.compiled == counted


def for_older(scope: Scope, release: Release = Release.V1_36) -> Scope:
    return replace(scope, outbound=replace(scope.outbound, key=replace(scope.outbound.key, envoy=release)))


def test_an_older_envoy_shares_all_that_it_can_take() -> None:
    budget = TrafficPolicy(retry_budget=RetryBudget(interval=rich.SECOND))
    limited = made.cluster("limited", policy=budget, origin=made.POLICY)
    scope = made.scope([REVIEWS, limited], rich.outbound_listeners()[:1], [made.table()], made.inbound([RATINGS]))
    compiler = Compiler()
    new, old = (compiler.compile(each, ENDPOINTS, made.VIEW) for each in (scope, for_older(scope)))
    assert agree(compiler, new, old) == {
        names.CLUSTER: {limited.name},
        names.LISTENER: {"virtualOutbound"},
    }
    assert old.get(names.CLUSTER, REVIEWS.name) is new.get(names.CLUSTER, REVIEWS.name)
    assert old.layers[names.CLUSTER][1] is new.layers[names.CLUSTER][1]
    assert old.layers[names.ROUTE][0] is new.layers[names.ROUTE][0]
    assert old.layers[names.ENDPOINT][0] == new.layers[names.ENDPOINT][0]
    assert compiler.compiled[OLDER] == 2
    told = {each.origin: [loss.what for loss in each.losses] for each in lost(old)}
    assert told == {
        made.POLICY: ["CircuitBreakers.Thresholds.RetryBudget.budget_interval"],
        None: ["envoy.access_loggers.stats"],
    }
    assert list(lost(new)) == []


def test_a_change_makes_one_resource_anew_for_an_older_envoy() -> None:
    compiler = Compiler()
    interval = TrafficPolicy(retry_budget=RetryBudget(interval=rich.SECOND))
    many = [made.cluster(f"c{number}", policy=interval) for number in range(5)]
    before = compiler.compile(for_older(made.scope(many)), ENDPOINTS, made.VIEW)
    changed = [*many[:4], replace(many[4], policy=TrafficPolicy(retry_budget=RetryBudget(interval=2 * rich.SECOND)))]
    after = compiler.compile(for_older(made.scope(changed)), ENDPOINTS, made.VIEW)
    assert compiler.compiled[OLDER] == 6  # what is left is the same in both
    assert agree(compiler, before, after) == {}
    more = [
        *changed[:4],
        replace(many[4], policy=replace(interval, retry_budget=RetryBudget(interval=rich.SECOND, percent=5))),
    ]
    last = compiler.compile(for_older(made.scope(more)), ENDPOINTS, made.VIEW)
    assert agree(compiler, after, last) == {names.CLUSTER: {many[4].name}}
    assert compiler.compiled[OLDER] == 7


def test_what_an_older_envoy_has_goes_with_it() -> None:
    compiler, scope = Compiler(), for_older(made.scope(listeners=rich.outbound_listeners()))
    held = compiler.compile(scope, ENDPOINTS, made.VIEW)
    assert compiler.kept > 0
    del held, scope
    gc.collect()
    assert compiler.kept == 0


def test_scopes_share_the_leaves_that_they_have_in_common() -> None:
    compiler = Compiler()
    other = made.scope([REVIEWS, RATINGS])
    other = replace(other, outbound=replace(other.outbound, key=replace(other.outbound.key, namespace="other")))
    one = compiler.compile(made.scope([REVIEWS]), ENDPOINTS, made.VIEW)
    two = compiler.compile(other, ENDPOINTS, made.VIEW)
    name = REVIEWS.name
    assert one.get(names.CLUSTER, name) is two.get(names.CLUSTER, name)
    assert one.get(names.ENDPOINT, name) is two.get(names.ENDPOINT, name)
    assert compiler.compiled == {names.CLUSTER: 2, names.ENDPOINT: 1}


def test_a_changed_cluster_compiles_alone() -> None:
    compiler = Compiler()
    before = compiler.compile(made.scope([REVIEWS, RATINGS]), ENDPOINTS, made.VIEW)
    after = compiler.compile(made.scope([replace(REVIEWS, policy=RANDOM), RATINGS]), ENDPOINTS, made.VIEW)
    assert agree(compiler, before, after) == {names.CLUSTER: {REVIEWS.name}}
    assert compiler.compiled[names.CLUSTER] == 3


def test_names_come_and_go_in_an_order_that_tells_nothing_of_the_past() -> None:
    compiler = Compiler()
    both = compiler.compile(made.scope([REVIEWS, RATINGS]), ENDPOINTS, made.VIEW)
    one = compiler.compile(made.scope([REVIEWS]), ENDPOINTS, made.VIEW)
    back = compiler.compile(made.scope([REVIEWS, RATINGS]), ENDPOINTS, made.VIEW)
    assert agree(compiler, both, one) == {names.CLUSTER: {RATINGS.name}, names.ENDPOINT: {RATINGS.name}}
    assert agree(compiler, one, back) == {names.CLUSTER: {RATINGS.name}, names.ENDPOINT: {RATINGS.name}}
    assert [each.name for each in back.of(names.CLUSTER)] == sorted([REVIEWS.name, RATINGS.name])
    assert everything(back) == everything(both)


def test_a_cluster_that_stops_asking_for_endpoints_has_none() -> None:
    compiler = Compiler()
    before = compiler.compile(made.scope([REVIEWS]), ENDPOINTS, made.VIEW)
    fixed = replace(REVIEWS, discovery=Discovery.STATIC, query=None, endpoints=(made.endpoint(),))
    after = compiler.compile(made.scope([fixed]), ENDPOINTS, made.VIEW)
    assert agree(compiler, before, after) == {names.CLUSTER: {REVIEWS.name}, names.ENDPOINT: {REVIEWS.name}}
    assert after.get(names.ENDPOINT, REVIEWS.name) is None
    assert REVIEWS.name not in after.layers[names.ENDPOINT][0]


def test_an_equal_scope_rebuilt_from_the_same_leaves_is_the_same_layer() -> None:
    compiler = Compiler()
    before = compiler.compile(made.scope([REVIEWS]), ENDPOINTS, made.VIEW)
    assert compiler.compile(made.scope([REVIEWS]), ENDPOINTS, made.VIEW) is before


def test_a_changed_route_compiles_its_virtual_host_and_joins_its_table() -> None:
    compiler = Compiler()
    one, other = made.virtual_host("reviews"), made.virtual_host("ratings")
    before = compiler.compile(made.scope(tables=[made.table(one, other)]), ENDPOINTS, made.VIEW)
    changed = made.virtual_host("reviews", routes=[made.route(name="new")])
    after = compiler.compile(made.scope(tables=[made.table(changed, other)]), ENDPOINTS, made.VIEW)
    assert agree(compiler, before, after) == {names.ROUTE: {"9080"}}
    assert compiler.compiled == {names.ROUTE: 2, VIRTUAL_HOST: 3, ROUTES: 3}


def test_a_virtual_host_under_other_domains_shares_its_routes() -> None:
    compiler = Compiler()
    near = made.virtual_host("reviews")
    far = replace(near, domains=("reviews.default",))
    first = compiler.compile(made.scope(tables=[made.table(near)]), ENDPOINTS, made.VIEW)
    second = compiler.compile(made.scope(tables=[made.table(far)]), ENDPOINTS, made.VIEW)
    assert compiler.compiled == {names.ROUTE: 2, VIRTUAL_HOST: 2, ROUTES: 1}
    tables = [made.parsed(one, route_pb2.RouteConfiguration) for of in (first, second) for one in of.of(names.ROUTE)]
    assert tables[0].virtual_hosts[0].routes == tables[1].virtual_hosts[0].routes
    assert tables[0] != tables[1]


def test_an_endpoint_event_compiles_the_queries_of_its_host_and_nothing_else() -> None:
    compiler, scope = Compiler(), made.scope([REVIEWS, RATINGS, made.cluster("reviews", subset="v1")])
    before = compiler.compile(scope, ENDPOINTS, made.VIEW)
    everything(before)
    counted = compiler.compiled.copy()
    after = compiler.compile(scope, with_leaf(ENDPOINTS, "reviews", "10.0.0.1", "10.0.0.9"), made.VIEW)
    for _ in range(2):  # once for each scope
        assert agree(compiler, before, after) == {
            names.ENDPOINT: {REVIEWS.name, made.cluster_name("reviews", subset="v1")}
        }
    assert compiler.compiled - counted == {names.ENDPOINT: 2}


def test_an_endpoint_event_that_changes_nothing_for_a_query_is_no_change() -> None:
    compiler, scope = Compiler(), made.scope([made.cluster("reviews", subset="v2")])
    before = compiler.compile(scope, ENDPOINTS, made.VIEW)
    after = compiler.compile(scope, with_leaf(ENDPOINTS, "reviews", "10.0.0.9"), made.VIEW)
    assert agree(compiler, before, after) == {}


def test_a_host_that_is_gone_has_no_endpoints_and_the_set_before_still_has_them() -> None:
    compiler, scope = Compiler(), made.scope([REVIEWS])
    before = compiler.compile(scope, ENDPOINTS, made.VIEW)
    after = compiler.compile(scope, EndpointTable(), made.VIEW)
    assert agree(compiler, before, after) == {names.ENDPOINT: {REVIEWS.name}}
    old = before.get(names.ENDPOINT, REVIEWS.name)
    assert old is not None
    assert b"10.0.0.1" in old.delta_frame
    everything(compiler.compile(scope, with_leaf(ENDPOINTS, "reviews", "10.0.0.3"), made.VIEW))
    again = before.get(names.ENDPOINT, REVIEWS.name)
    assert again is not None
    assert again.version == old.version


def test_views_share_what_does_not_look_at_them() -> None:
    compiler = Compiler()
    far = replace(made.VIEW, locality=replace(made.VIEW.locality, region="r2"), node="n-z9")
    spread = made.cluster("ratings", query=made.query("ratings", locality_lb=LocalityLb()))
    table = EndpointTable(
        leaves={
            (made.host("ratings"), "default"): made.leaf(
                *(made.endpoint(locality=replace(made.VIEW.locality, region=region)) for region in ("r1", "r2"))
            )
        }
    )
    scope = made.scope([REVIEWS, spread])
    here, there = compiler.compile(scope, table, made.VIEW), compiler.compile(scope, table, far)
    assert here.layers[names.CLUSTER][0] is there.layers[names.CLUSTER][0]
    assert here.get(names.ENDPOINT, REVIEWS.name) is there.get(names.ENDPOINT, REVIEWS.name)
    assert agree(compiler, here, there) == {names.ENDPOINT: {spread.name}}
    assert compiler.compiled[names.ENDPOINT] == 3


def test_views_that_differ_only_where_nobody_looks_share() -> None:
    compiler = Compiler()
    node_local = made.cluster("reviews", query=made.query("reviews", node_local=True))
    labels = made.query("ratings", locality_lb=LocalityLb(failover_priority=("net",)))
    scope = made.scope([node_local, made.cluster("ratings", query=labels)])
    one = compiler.compile(scope, ENDPOINTS, made.VIEW)
    moved = compiler.compile(scope, ENDPOINTS, replace(made.VIEW, locality=replace(made.VIEW.locality, zone="zz")))
    assert one.get(names.ENDPOINT, node_local.name) is moved.get(names.ENDPOINT, node_local.name)
    assert one.get(names.ENDPOINT, RATINGS.name) is not moved.get(names.ENDPOINT, RATINGS.name)


def test_more_views_than_fit_are_compiled_anew_and_alike() -> None:
    compiler = Compiler()
    cluster = made.cluster(query=made.query(node_local=True))
    scope = made.scope([cluster])
    first = compiler.compile(scope, ENDPOINTS, made.VIEW)
    before = first.get(names.ENDPOINT, cluster.name)
    assert before is not None
    for index in range(1100):
        compiler.compile(scope, ENDPOINTS, replace(made.VIEW, node=f"n{index}")).get(names.ENDPOINT, cluster.name)
    after = first.get(names.ENDPOINT, cluster.name)
    assert after is not None
    assert after.version == before.version


class Text(str):  # noqa: SLOT000 (slots would forbid weak references)
    """One that can be waited for to go."""


def test_an_endpoint_that_went_is_forgotten() -> None:
    """Faults FT56 and FT57: frames of endpoints long gone were kept, 16,384 of them."""
    compiler, scope = Compiler(), made.scope([REVIEWS])
    address = Text("10.99.0.9")
    gone = weakref.ref(address)
    held = [compiler.compile(scope, with_leaf(ENDPOINTS, "reviews", address), made.VIEW)]
    everything(held[-1])
    del address
    for number in range(3):
        held = [*held[-1:], compiler.compile(scope, with_leaf(ENDPOINTS, "reviews", f"10.0.0.{number}"), made.VIEW)]
        everything(held[-1])
    gc.collect()
    assert gone() is None


def test_of_a_service_that_changes_the_other_endpoints_stay_as_they_were() -> None:
    host, stays = Host(), made.endpoint()
    host.enter(made.leaf(stays))
    first = host.frame(stays)
    for number in range(3):
        other = made.endpoint(f"10.0.1.{number}")
        host.enter(made.leaf(replace(stays), other))
        assert host.frame(replace(stays)) is first
        assert host.frame(other) != first


def test_different_settings_are_different_bytes() -> None:
    compiler = Compiler()
    listeners = rich.outbound_listeners()
    loud = compiler.compile(made.scope(listeners=listeners), ENDPOINTS, made.VIEW)
    quiet = compiler.compile(made.scope(listeners=listeners, settings=made.QUIET), ENDPOINTS, made.VIEW)
    assert agree(compiler, loud, quiet)[names.LISTENER] == {each.name for each in listeners}


def test_what_nobody_holds_any_more_is_forgotten() -> None:
    compiler, scope = Compiler(), rich.scope()
    held = compiler.compile(scope, ENDPOINTS, made.VIEW)
    everything(held)
    counted = compiler.compiled.copy()
    del held
    gc.collect()
    assert not any((compiler._memo, compiler._layers, compiler._sets, compiler._book._cells, compiler._book._hosts))
    compiler.compile(scope, ENDPOINTS, made.VIEW)
    assert compiler.compiled[names.CLUSTER] == 2 * counted[names.CLUSTER]


def test_a_first_target_changes_everything_and_a_gateway_has_no_inbound() -> None:
    compiler = Compiler()
    target = compiler.compile(rich.scope(), ENDPOINTS, made.VIEW)
    assert agree(compiler, EMPTY, target).keys() == set(target.layers)
    assert agree(compiler, target, EMPTY).keys() == set(target.layers)
    assert agree(compiler, EMPTY, EMPTY) == {}
    gateway = compiler.compile(made.scope([REVIEWS]), ENDPOINTS, made.VIEW)
    assert len(gateway.layers[names.CLUSTER]) == 1


def test_a_secret_is_compiled_once_and_its_change_is_one() -> None:
    compiler = Compiler()
    pair = Credential(name="kubernetes://a", certificate=b"chain", key=b"key")
    root = Credential(name="kubernetes://a-cacert", root=b"root", crl=b"crl")
    bare = replace(root, name="kubernetes://b-cacert", crl=b"")

    def target(*secrets: Credential) -> ResourceSet:
        scope = made.scope([REVIEWS])
        outbound = replace(scope.outbound, secrets={one.name: one for one in secrets})
        return compiler.compile(replace(scope, outbound=outbound), ENDPOINTS, made.VIEW)

    first = target(pair, root, bare)
    assert compiler.compiled[names.SECRET] == 3
    found = {one.name: made.shown(made.parsed(one, secret_pb2.Secret)) for one in first.of(names.SECRET)}
    assert found["kubernetes://a"]["tls_certificate"].keys() == {"certificate_chain", "private_key"}
    assert found["kubernetes://a-cacert"]["validation_context"].keys() == {"trusted_ca", "crl"}
    assert found["kubernetes://b-cacert"]["validation_context"].keys() == {"trusted_ca"}
    second = target(replace(pair, key=b"other"), root, bare)
    assert agree(compiler, first, second) == {names.SECRET: {"kubernetes://a"}}
    assert compiler.compiled[names.SECRET] == 4


@given(st.permutations(rich.clusters()), st.permutations(rich.outbound_listeners()))
def test_the_same_scope_is_the_same_bytes_in_any_order(clusters: list[Cluster], listeners: list[Listener]) -> None:
    def compiled(scope: Scope) -> dict[str, bytes]:
        return everything(Compiler().compile(scope, ENDPOINTS, made.VIEW))

    plain = made.scope(rich.clusters(), rich.outbound_listeners(), [rich.routes()])
    assert list(compiled(plain).items()) == list(compiled(made.scope(clusters, listeners, [rich.routes()])).items())


def test_resources_are_what_their_type_says() -> None:
    found = Compiler().compile(rich.scope(), ENDPOINTS, made.VIEW)
    for each in found.of(names.CLUSTER):
        assert made.parsed(each, cluster_pb2.Cluster).name == each.name
    for each in found.of(names.LISTENER):
        assert made.parsed(each, listener_pb2.Listener).name == each.name
