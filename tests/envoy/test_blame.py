from __future__ import annotations

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2

from crds.diagnostic import Code
from crds.key import NETWORKING, ConfigKey
from istiod.config import resource
from istiod.config.origin import Origin
from istiod.config.resource import Resource
from istiod.envoy import blame, wellknown
from wire import names


def origin(name: str, field: str = "") -> Origin:
    return Origin(key=ConfigKey(NETWORKING, "VirtualService", "shop", name), field=field)


def routes(*hosts: tuple[str, Origin | None]) -> Resource:
    message = route_pb2.RouteConfiguration(name="9080")
    for domain, source in hosts:
        host = message.virtual_hosts.add(name=f"{domain}:9080", domains=[domain])
        route = route_components_pb2.Route(metadata=wellknown.origin_metadata(source))
        route.match.safe_regex.regex = f"/{domain}/[a-z]+"
        route.direct_response.status = 404
        host.routes.append(route)
    return resource.make("9080", names.ROUTE, wellknown.encode(message))


def test_the_object_whose_part_envoy_quotes_is_accused() -> None:
    refused = routes(("cart.shop", origin("cart", "spec.http[0]")), ("web.shop", origin("web", "spec.http[1]")))
    (found,) = blame.findings(refused, "goo.gle/debugstr Duplicate entry of domain cart.shop\nin route 9080\x1b[31m")
    assert (found.code, found.key, found.field) == (Code.REJECTED_BY_ENVOY, origin("cart").key, "spec.http[0]")
    assert (
        found.message == "Envoy refuses RouteConfiguration 9080: Duplicate entry of domain cart.shop in route 9080[31m"
    )


def test_without_a_quotation_all_objects_of_the_resource_are_named_as_possible() -> None:
    refused = routes(("cart.shop", origin("cart")), ("web.shop", origin("web")), ("own.shop", None))
    found = blame.findings(refused, "no")
    assert [d.key for d in found] == [origin("cart").key, origin("web").key]
    assert found[0].message == "this object, or one of 1 others: Envoy refuses RouteConfiguration 9080: no"


def test_of_very_many_objects_none_is_accused() -> None:
    refused = routes(*((f"host{i}.shop", origin(f"host{i}")) for i in range(6)))
    (found,) = blame.findings(refused, "no")
    assert found.key is None


def test_a_filter_chain_tells_its_object() -> None:
    message = listener_pb2.Listener(name="l")
    chain = listener_components_pb2.FilterChain(name="tls", metadata=wellknown.origin_metadata(origin("tls")))
    message.filter_chains.append(chain)
    message.filter_chains.add(name="plain")
    assert blame.origins(resource.make("l", names.LISTENER, wellknown.encode(message)), "no") == (origin("tls"),)


@pytest.mark.parametrize("source", [None, Origin(key=ConfigKey("", "Service", "shop", "web"))])
def test_a_cluster_is_of_one_object_or_of_none(source: Origin | None) -> None:
    body = wellknown.encode(cluster_pb2.Cluster(name="c"))
    (found,) = blame.findings(resource.make("c", names.CLUSTER, body, origin=source), "x" * 2000)
    assert found.key == (source.key if source else None)
    assert len(found.message) < 700


@pytest.mark.parametrize(
    ("proxies", "end"),
    [((), "no"), (("a.shop", "b\n.shop"), "no (on a.shop, b .shop)"), (tuple("abcde"), "no (on a, b, c and 2 more)")],
)
def test_the_proxies_are_named_that_refuse(proxies: tuple[str, ...], end: str) -> None:
    for refused in (routes(("web.shop", origin("web"))), routes()):
        (found,) = blame.findings(refused, "no", proxies)
        assert found.words == f"Envoy refuses RouteConfiguration 9080: {end}"
        assert str(found).endswith(": no"), "the line is the same whoever refuses"


@pytest.mark.parametrize(
    "key",
    [
        ConfigKey("", "Service", "shop", "web"),
        ConfigKey(NETWORKING, "DestinationRule", "shop", "web"),
        ConfigKey("gateway.networking.k8s.io", "HTTPRoute", "shop", "web"),
    ],
)
def test_objects_are_read_back_as_they_were_written(key: ConfigKey) -> None:
    refused = routes(("web.shop", Origin(key=key)))
    assert blame.origins(refused, "") == (Origin(key=key),)


def test_metadata_of_others_is_no_origin() -> None:
    message = route_pb2.RouteConfiguration(name="9080")
    host = message.virtual_hosts.add(name="h", domains=["h"])
    for path in ("", "/apis", "/api/v1/nodes"):
        host.routes.add().metadata.filter_metadata[wellknown.ISTIO].fields["config"].string_value = path
    host.routes.add().metadata.filter_metadata[wellknown.ISTIO].fields["other"].string_value = "x"
    assert blame.origins(resource.make("9080", names.ROUTE, wellknown.encode(message)), "") == ()
