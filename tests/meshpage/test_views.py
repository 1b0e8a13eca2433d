"""What stands on the pages: values and HTML out of a mesh, without a server."""

from __future__ import annotations

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2

from crds.diagnostic import Code, Position, error, warning
from crds.key import ConfigKey
from istiod.ads.status import Sync
from istiod.config.origin import Origin
from istiod.config.resource import ResourceSet, make
from istiod.envoy.wellknown import encode
from istiod.meshpage import configuration, findings, listing, proxies, render
from istiod.meshpage.configuration import PARTS, Row
from istiod.meshpage.listing import Listing
from tests.meshpage import made
from wire import names

KEY = ConfigKey("networking.istio.io", "VirtualService", "shop", "api")


def table(part: str, query: str = "", page: int = 1, who: int = 0) -> Listing[Row]:
    shop = made.shop()
    target = shop.pipeline.target(shop.proxies[who].proxy)
    return PARTS[part].rows(target, query, page, shop.sources().origins())


def test_lists_have_pages_and_every_page_has_something() -> None:
    numbers = list(range(120))
    assert listing.paged(numbers, 2).rows == tuple(range(50, 100))
    assert (listing.paged(numbers, 99).page, listing.paged(numbers, 99).rows[0]) == (3, 100)
    assert listing.paged([], 1) == Listing(rows=(), total=0, page=1, pages=1)


def test_a_search_finds_every_word_in_any_case_and_anywhere() -> None:
    assert listing.fits("", "x")
    assert listing.fits("B a", "A", "b")
    assert not listing.fits("a c", "a", "b")


def test_proxies_are_listed_with_the_state_of_each_type_the_unwell_first() -> None:
    well = made.proxy("a-1.shop", "10.0.0.1")
    rows = [
        proxies.row(made.status(well)),
        proxies.row(made.status(made.proxy("b-1.shop", "10.0.0.2"), error="bad listener", refused=("x",))),
        proxies.row(made.status(made.proxy("c-1.shop", "10.0.0.3", "router"), {names.CLUSTER: Sync.PENDING})),
        proxies.row(made.status(made.proxy("d-1.shop", "10.0.0.4"), {names.TYPE_PREFIX + "x.NameTable": Sync.STALE})),
        proxies.row(made.status(made.proxy("e-1.shop", "10.0.0.5"), {})),
    ]
    found = proxies.shown(rows, "", "", 1)
    assert [(each.name, each.state, each.kind) for each in found.rows] == [
        ("b-1.shop", "nacked", "sidecar"),
        ("d-1.shop", "stale", "sidecar"),
        ("c-1.shop", "pending", "gateway"),
        ("e-1.shop", "not sent", "sidecar"),
        ("a-1.shop", "acked", "sidecar"),
    ]
    assert found.rows[0].error == "bad listener"
    assert [each.type for each in found.rows[1].others] == ["NameTable"]
    assert not found.rows[0].others
    assert list(proxies.counted(rows).items()) == [
        ("acked", 1),
        ("pending", 1),
        ("nacked", 1),
        ("stale", 1),
        ("not sent", 1),
    ]
    assert [each.name for each in proxies.shown(rows, "bad", "", 1).rows] == ["b-1.shop"]
    assert [each.name for each in proxies.shown(rows, "", "acked", 1).rows] == ["a-1.shop"]


def test_a_type_that_was_refused_and_taken_later_is_acked_and_keeps_its_words() -> None:
    row = proxies.row(made.status(made.proxy("a-1.shop", "10.0.0.1"), error="was bad"))
    assert (row.state, row.error) == ("acked", "was bad")


def test_findings_are_listed_errors_first_and_searched() -> None:
    bad = error(Code.UNKNOWN_SUBSET, KEY, "spec.http[0]", "no subset v9").at(Position(file="api.yaml", line=3))
    found = [warning(Code.INEFFECTIVE, None, "", "of nobody"), bad]
    rows = findings.shown(found, "", "", 1).rows
    assert [(each.severity, each.object, each.place) for each in rows] == [
        ("error", "VirtualService/shop/api", "api.yaml:3"),
        ("warning", "", ""),
    ]
    assert findings.shown(found, "V9", "", 1).total == 1
    assert findings.shown(found, "", "warning", 1).rows[0].reason == "of nobody"
    assert findings.counted(found) == {"error": 1, "warning": 1}


def test_clusters_say_where_they_lead_and_which_object_made_them() -> None:
    rows = {each.name: each for each in table("clusters", "api").rows}
    assert rows["outbound|80|v1|api.shop.svc.cluster.local"] == Row(
        name="outbound|80|v1|api.shop.svc.cluster.local",
        cells=("api.shop.svc.cluster.local", "80", "v1", "outbound", "EDS", "TLS"),
        causes=("DestinationRule/shop/api",),
    )
    (web,) = table("clusters", "web.shop").rows
    assert web.causes == ("Service/shop/web",), "no rule shapes it, so the service did"
    (passthrough,) = table("clusters", "PassthroughCluster").rows[-1:]
    assert passthrough.causes == ()


def test_routes_say_what_they_match_where_it_goes_and_the_line_that_says_so() -> None:
    rows = {each.cells[2]: each for each in table("routes", "api.shop").rows}
    assert rows["/old"].cells[3] == "redirects"
    assert rows["~/secret.*"].cells[3] == "answers 403"
    assert rows["/in* header end-user ?q"].cells[3] == "outbound|80|v2|api.shop.svc.cluster.local"
    split = rows["/*"]
    assert split.cells[3] == (
        "75% outbound|80|v1|api.shop.svc.cluster.local, 25% outbound|80|v2|api.shop.svc.cluster.local"
    )
    assert split.causes == ("VirtualService/shop/api spec.http[3] (api.yaml:7)",)
    assert table("routes", "spec.http[3]").total == 1, "origins are searched, too"
    assert table("routes", "web.shop").rows[0].causes == ("Service/shop/web",)


def test_listeners_say_where_their_chains_lead() -> None:
    rows = {each.name: each for each in table("listeners").rows}
    assert rows["0.0.0.0_80"].cells[1:] == ("0.0.0.0:80", "2", "routes 80, PassthroughCluster")
    assert rows["0.0.0.0_80"].causes == ("Service/shop/api", "Service/shop/web")
    assert rows["10.96.0.2_9000"].causes == ("Service/shop/api",)
    assert rows["virtualInbound"].causes == ()


def test_endpoints_are_those_of_a_cluster() -> None:
    rows = {each.name: each for each in table("endpoints").rows}
    both = rows["outbound|80||api.shop.svc.cluster.local"]
    assert both.cells[3:] == ("2", "10.244.0.2:8000, 10.244.0.3:8000")
    assert both.causes == ("DestinationRule/shop/api",)
    assert rows["outbound|80||web.shop.svc.cluster.local"].cells[3:] == ("0", "none")


def test_what_others_made_is_shown_as_well() -> None:
    """Resources of patches hold what this compiler never writes."""
    listener = listener_pb2.Listener(name="pipe")
    listener.address.pipe.path = "/run/x.sock"
    chain = listener.filter_chains.add()
    chain.filters.add().typed_config.type_url = names.TYPE_PREFIX + "x.Unknown"
    cluster = cluster_pb2.Cluster(name="own", type=cluster_pb2.Cluster.EDS)
    assigned = endpoint_pb2.ClusterLoadAssignment(cluster_name="own")
    place = assigned.endpoints.add()
    place.lb_endpoints.add(health_status=3).endpoint.address.pipe.path = "/run/y.sock"
    place.lb_endpoints.add().endpoint.address.envoy_internal_address.server_listener_name = "inner"
    action = route_components_pb2.RouteAction(cluster_header="x-to")
    match = route_components_pb2.RouteMatch(path_separated_prefix="/a")
    host = route_components_pb2.VirtualHost(domains=["a:80"])
    host.routes.add(match=match, route=action)
    host.routes.add(match=route_components_pb2.RouteMatch(connect_matcher={}), route=action)
    tables = route_pb2.RouteConfiguration(name="own", virtual_hosts=[host])
    patch = Origin(key=ConfigKey("networking.istio.io", "EnvoyFilter", "shop", "own"), field="spec.configPatches[0]")
    every = {
        names.LISTENER: listener,
        names.CLUSTER: cluster,
        names.ENDPOINT: assigned,
        names.ROUTE: tables,
    }
    target = ResourceSet(
        layers={url: ({"own": make("own", url, encode(message), origin=patch)},) for url, message in every.items()}
    )
    origins = configuration.Origins(cause=str, of_host=lambda _: None, of_port=lambda _: ())
    assert PARTS["listeners"].rows(target, "", 1, origins).rows[0].causes == (str(patch),)
    cells = {part: [row.cells for row in PARTS[part].rows(target, "", 1, origins).rows] for part in PARTS}
    assert cells == {
        "listeners": [("own", "/run/x.sock", "1", "")],
        "routes": [("own", "a:80", "/a/*", "x-to"), ("own", "a:80", "connect_matcher", "x-to")],
        "clusters": [("own", "", "", "", "EDS", "")],
        "endpoints": [("own", "", "", "2", "/run/y.sock (draining), inner")],
    }


def test_a_resource_is_shown_whole() -> None:
    shop = made.shop()
    target = shop.pipeline.target(shop.proxies[0].proxy)
    text = configuration.whole(target, PARTS["clusters"], "outbound|80||web.shop.svc.cluster.local")
    assert text is not None
    assert '"name": "outbound|80||web.shop.svc.cluster.local"' in text
    assert configuration.whole(target, PARTS["clusters"], "none") is None


def test_addresses_have_only_what_they_need() -> None:
    assert render.link("/x", q="", page=1) == "/x"
    assert render.link("/x", q="a b&c", page=2) == "/x?q=a+b%26c&page=2"


@pytest.mark.parametrize(
    ("value", "said"),
    [(0, "0"), (0.0312, "0.03"), (2.345, "2.35"), (1234, "1.23k"), (2_500_000, "2.5M")],
)
def test_rates_have_three_digits(value: float, said: str) -> None:
    assert render.rate(value) == said


def test_latencies_have_their_unit() -> None:
    assert [render.milliseconds(value) for value in (None, 2.5, 1500)] == ["-", "2.5 ms", "1.5 s"]
