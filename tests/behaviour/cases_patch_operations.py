"""EnvoyFilter: what each operation does, by the order in which filters and routes come to a request."""

from __future__ import annotations

from tests.behaviour.case import Cases
from tests.behaviour.cases_patches import MANAGER
from tests.behaviour.rig import Rig

CASES = Cases()
OTHERS = r"(VirtualService|DestinationRule).*"
PLACE = r".*(context|labels|applyTo|match\..*|value)"
FILTER = """
  - applyTo: HTTP_FILTER
    match:
      context: SIDECAR_OUTBOUND
      listener: {portNumber: $http, filterChain: {filter: {%s}}}
    patch:
      operation: %s
      value:
        name: %s
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation
          mutations:
            request_mutations:
            - append: {header: {key: x-order, value: %s}, append_action: APPEND_IF_EXISTS_OR_ADD}
"""


def patches(*each: str, more: str = "") -> str:
    """Patches of the client's configuration, one after the other."""
    selector = "workloadSelector: {labels: {app: client}}"
    return f"kind: EnvoyFilter\nspec:\n  {selector}\n  configPatches:\n{''.join(each)}{more}"


def _filter(operation: str, name: str, beside: str = "") -> str:
    """A filter that adds its name to a header, put somewhere by the filter beside it."""
    anchor = f"{MANAGER}, subFilter: {{name: {beside}}}" if beside else MANAGER
    return FILTER % (anchor, operation, name, name)


FIRST = _filter("INSERT_BEFORE", "m", "envoy.filters.http.router")
ORDERS = {
    "INSERT_BEFORE": (_filter("INSERT_BEFORE", "x", "m"), "x,m"),
    "INSERT_AFTER": (_filter("INSERT_AFTER", "x", "m"), "m,x"),
    "INSERT_FIRST": (_filter("INSERT_FIRST", "x"), "x,m"),
    "REPLACE": (_filter("REPLACE", "x", "m"), "x"),
}


def _ordered(operation: str, said: str, order: str) -> None:
    async def check(rig: Rig) -> None:
        assert (await rig.ask(host="shop")).body == "shop-1"
        assert rig.servers.seen[-1].headers["x-order"] == order

    check.__name__ = f"filters_by_{operation.lower()}"
    CASES(patches(FIRST, said), PLACE)(check)


for _operation, (_said, _order) in ORDERS.items():
    _ordered(_operation, _said, _order)


ROUTE = """
  - applyTo: HTTP_ROUTE
    match: {context: SIDECAR_OUTBOUND, routeConfiguration: {vhost: {domainName: shop.default.svc.cluster.local%s}}}
    patch:
      operation: %s
      value: {name: %s, match: {prefix: /}, direct_response: {status: %s}}
"""


@CASES(patches(ROUTE % ("", "INSERT_FIRST", "one", 418)), PLACE)
async def a_route_before_all_others(rig: Rig) -> None:
    assert (await rig.ask(host="shop")).status == 418
    assert (await rig.ask()).status == 200


@CASES(
    patches(ROUTE % ("", "INSERT_FIRST", "one", 418), ROUTE % (", route: {name: one}", "INSERT_BEFORE", "two", 419)),
    PLACE,
)
async def a_route_before_another(rig: Rig) -> None:
    assert (await rig.ask(host="shop")).status == 419


@CASES(
    patches(ROUTE % ("", "INSERT_FIRST", "one", 418), ROUTE % (", route: {name: one}", "INSERT_AFTER", "two", 419)),
    PLACE,
)
async def a_route_after_another(rig: Rig) -> None:
    """What has no path before it is not reached."""
    assert (await rig.ask(host="shop")).status == 418


HOST = """
  - applyTo: VIRTUAL_HOST
    match: {context: SIDECAR_OUTBOUND, routeConfiguration: {name: "$http"}}
    patch:
      operation: ADD
      value:
        name: added
        domains: [added.example]
        routes: [{match: {prefix: /}, direct_response: {status: 418}}]
"""
REPLACED = """
  - applyTo: VIRTUAL_HOST
    match: {context: SIDECAR_OUTBOUND, routeConfiguration: {vhost: {name: "shop.default.svc.cluster.local:$http"}}}
    patch:
      operation: REPLACE
      value:
        name: replaced
        domains: [shop]
        routes: [{match: {prefix: /}, direct_response: {status: 418}}]
"""


@CASES(patches(HOST), PLACE)
async def a_virtual_host_more(rig: Rig) -> None:
    assert (await rig.ask(host="added.example")).status == 418
    assert (await rig.ask(host="shop")).body == "shop-1"


@CASES(patches(REPLACED), PLACE)
async def a_virtual_host_in_place_of_another(rig: Rig) -> None:
    assert (await rig.ask(host="shop")).status == 418


CLUSTER = """
  - applyTo: CLUSTER
    match: {context: SIDECAR_OUTBOUND}
    patch:
      operation: ADD
      value:
        name: added
        type: STATIC
        connect_timeout: 1s
        load_assignment:
          cluster_name: added
          endpoints:
          - lb_endpoints: [{endpoint: {address: {socket_address: {address: $ip5, port_value: $app}}}}]
  - applyTo: HTTP_ROUTE
    match: {context: SIDECAR_OUTBOUND, routeConfiguration: {vhost: {domainName: shop.default.svc.cluster.local}}}
    patch: {operation: MERGE, value: {route: {cluster: added}}}
"""


@CASES(patches(CLUSTER), PLACE)
async def a_cluster_more(rig: Rig) -> None:
    assert (await rig.ask(host="shop")).body == "far-1"


LISTS = """
  - applyTo: HTTP_ROUTE
    match: {context: SIDECAR_OUTBOUND, routeConfiguration: {vhost: {domainName: shop.default.svc.cluster.local}}}
    patch: {operation: %s, value: {response_headers_to_add: [{header: {key: x-patched, value: "1"}}]}}
"""
OWN = """
---
kind: VirtualService
spec: {hosts: [shop], http: [{headers: {response: {add: {x-own: "1"}}}, route: [{destination: {host: shop}}]}]}
"""


async def _added(rig: Rig) -> set[str]:
    return {"x-own", "x-patched"} & set((await rig.ask(host="shop")).headers)


@CASES(patches(LISTS % "MERGE", more=OWN), OTHERS, PLACE)
async def lists_are_merged(rig: Rig) -> None:
    assert await _added(rig) == {"x-own", "x-patched"}


@CASES(patches(LISTS % "MERGE_AND_REPLACE_LIST", more=OWN), OTHERS, PLACE)
async def lists_are_replaced(rig: Rig) -> None:
    assert await _added(rig) == {"x-patched"}
