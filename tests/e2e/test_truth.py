"""The check itself: that it finds what is missing, what is stale, and what is routed elsewhere."""

from __future__ import annotations

from typing import Any

import pytest

from e2e.truth import dump, view, wanted

HOST = "reviews.shop.svc.cluster.local"
SERVICE = {
    "kind": "Service",
    "metadata": {"name": "reviews", "namespace": "shop"},
    "spec": {"clusterIP": "10.96.0.7", "ports": [{"name": "http", "port": 80, "targetPort": 9080}]},
}
SLICE = {
    "kind": "EndpointSlice",
    "metadata": {"name": "reviews-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "reviews"}},
    "ports": [{"name": "http", "port": 9080}],
    "endpoints": [
        {"addresses": ["10.244.1.1"], "conditions": {"ready": True}, "targetRef": {"name": "one"}},
        {"addresses": ["10.244.1.2"], "conditions": {"ready": True}, "targetRef": {"name": "two"}},
        {"addresses": ["10.244.1.3"], "conditions": {"ready": False}, "targetRef": {"name": "three"}},
    ],
}
PODS = [
    {"kind": "Pod", "metadata": {"name": name, "namespace": "shop", "labels": {"version": version}}}
    for name, version in (("one", "v1"), ("two", "v2"), ("three", "v1"))
]
SUBSETS = {
    "kind": "DestinationRule",
    "metadata": {"name": "reviews", "namespace": "shop"},
    "spec": {"host": "reviews", "subsets": [{"name": "v1", "labels": {"version": "v1"}}]},
}
RULE = {
    "kind": "VirtualService",
    "metadata": {"name": "reviews", "namespace": "shop"},
    "spec": {
        "hosts": ["reviews"],
        "http": [
            {
                "match": [{"headers": {"end-user": {"exact": "jason"}}}],
                "route": [{"destination": {"host": "reviews", "subset": "v1"}}],
            },
            {"route": [{"destination": {"host": "reviews"}}]},
        ],
    },
}
WHOLE, V1 = f"outbound|80||{HOST}", f"outbound|80|v1|{HOST}"
ONE, TWO = ("10.244.1.1", 9080), ("10.244.1.2", 9080)


def there() -> view.View:
    return wanted.sidecar(wanted.world([SERVICE, SLICE, *PODS, SUBSETS, RULE]))


def envoy(*, endpoints: list[tuple[str, int]], to: str = V1) -> dict[str, Any]:
    """A dump of a proxy that has these endpoints of v1, and sends jason there."""

    def assignment(name: str, found: list[tuple[str, int]]) -> dict[str, Any]:
        sockets = [{"socket_address": {"address": ip, "port_value": port}} for ip, port in found]
        ends = [{"endpoint": {"address": each}} for each in sockets]
        return {"endpoint_config": {"cluster_name": name, "endpoints": [{"lb_endpoints": ends}]}}

    jason = {"name": "end-user", "string_match": {"exact": "jason"}}
    routes = [
        {"match": {"prefix": "/", "headers": [jason]}, "route": {"cluster": to}},
        {"match": {"prefix": "/"}, "route": {"cluster": WHOLE}},
    ]
    hosts = [{"name": f"{HOST}:80", "domains": [HOST, "reviews"], "routes": routes}]
    clusters = [{"cluster": {"name": name}} for name in (WHOLE, V1, "xds-grpc")]
    assignments = [assignment(WHOLE, [ONE, TWO]), assignment(V1, endpoints)]
    return {
        "configs": [
            {"@type": "x/envoy.admin.v3.ClustersConfigDump", "dynamic_active_clusters": clusters},
            {"@type": "x/envoy.admin.v3.EndpointsConfigDump", "dynamic_endpoint_configs": assignments},
            {
                "@type": "x/envoy.admin.v3.RoutesConfigDump",
                "dynamic_route_configs": [{"route_config": {"name": "80", "virtual_hosts": hosts}}],
            },
        ]
    }


def test_a_proxy_that_has_everything_is_right() -> None:
    assert view.differences(there(), dump.view(envoy(endpoints=[ONE])), whole=True) == []


def test_a_missing_and_a_stale_endpoint_are_named() -> None:
    (found,) = view.differences(there(), dump.view(envoy(endpoints=[TWO])), whole=True)

    assert f"cluster {V1}" in found
    assert f"[{ONE}] are missing, [{TWO}] are stale" in found


def test_a_route_to_elsewhere_is_named() -> None:
    (found,) = view.differences(there(), dump.view(envoy(endpoints=[ONE], to=WHOLE)), whole=True)

    assert found.startswith(f"routes of {HOST} in 80: wanted [prefix / end-user exact jason] -> {V1} 100")


def test_clusters_that_nothing_asks_for_are_too_much() -> None:
    nothing = view.View(clusters={}, routes={})
    found = dump.view(envoy(endpoints=[ONE]))

    assert view.differences(nothing, found, whole=False) == []
    assert len(view.differences(nothing, found, whole=True)) == 2


def test_it_refuses_objects_that_it_does_not_know() -> None:
    with pytest.raises(wanted.UnknownError):
        wanted.world([{"kind": "Sidecar", "metadata": {"name": "default"}}])
