"""EnvoyFilter: patches, by what traffic shows of them."""

from __future__ import annotations

from tests.behaviour.case import Cases
from tests.behaviour.rig import Rig

CASES = Cases()


def patch(what: str, more: str = "") -> str:
    """One patch of the client's configuration."""
    selector = "workloadSelector: {labels: {app: client}}"
    return f"kind: EnvoyFilter\nspec:\n  {selector}\n  configPatches:\n  - {what}\n{more}"


@CASES(
    patch("""applyTo: HTTP_ROUTE
    match: {context: SIDECAR_OUTBOUND, routeConfiguration: {vhost: {route: {action: ROUTE}}}}
    patch: {operation: MERGE, value: {response_headers_to_add: [{header: {key: x-patched, value: "1"}}]}}"""),
    r".*(context|action|labels)",
)
async def routes_are_merged_with(rig: Rig) -> None:
    assert (await rig.ask()).headers["x-patched"] == "1"


@CASES(
    """
kind: EnvoyFilter
spec:
  workloadSelector: {labels: {app: server}}
  configPatches:
  - applyTo: VIRTUAL_HOST
    match: {context: SIDECAR_OUTBOUND}
    patch: {operation: MERGE, value: {response_headers_to_add: [{header: {key: x-patched, value: "1"}}]}}
""",
    r".*configPatches.*",
)
async def other_workloads_are_not_patched(rig: Rig) -> None:
    assert "x-patched" not in (await rig.ask()).headers


VHOST = """applyTo: VIRTUAL_HOST
    match: {context: SIDECAR_OUTBOUND, routeConfiguration: {%s}}
    patch: {operation: MERGE, value: {response_headers_to_add: [{header: {key: x-patched, value: "1"}}]}}"""


async def _only_shop(rig: Rig) -> None:
    assert (await rig.ask(host="shop")).headers["x-patched"] == "1"
    assert "x-patched" not in (await rig.ask()).headers


@CASES(patch(VHOST % 'vhost: {name: "shop.default.svc.cluster.local:$http"}'), r".*(context|labels)")
async def a_virtual_host_by_its_name(rig: Rig) -> None:
    await _only_shop(rig)


@CASES(patch(VHOST % 'vhost: {domainName: "shop.default.svc.cluster.local"}'), r".*(context|labels)")
async def a_virtual_host_by_a_domain(rig: Rig) -> None:
    await _only_shop(rig)


async def _only_http(rig: Rig) -> None:
    assert (await rig.ask()).headers["x-patched"] == "1"
    assert "x-patched" not in (await rig.ask(port="http3")).headers


@CASES(patch(VHOST % 'name: "$http"'), r".*(context|labels)")
async def a_route_table_by_its_name(rig: Rig) -> None:
    await _only_http(rig)


@CASES(patch(VHOST % "portNumber: $http"), r".*(context|labels)")
async def a_route_table_by_its_port(rig: Rig) -> None:
    await _only_http(rig)


CLUSTER = """applyTo: CLUSTER
    match: {context: SIDECAR_OUTBOUND, cluster: {%s}}
    patch: {operation: MERGE, value: {max_requests_per_connection: 1}}"""


async def _fresh(rig: Rig, port: str, host: str) -> bool:
    """Whether each request has a connection of its own."""
    rig.servers.seen.clear()
    await rig.names(9, host=host, port=port)
    return len({one.connection for one in rig.servers.seen}) == 9


@CASES(patch(CLUSTER % "service: shop.default.svc.cluster.local"), r".*(context|labels)")
async def a_cluster_by_its_service(rig: Rig) -> None:
    assert await _fresh(rig, "http", "shop")
    assert not await _fresh(rig, "http", "web")


@CASES(patch(CLUSTER % '"name": "outbound|$http||shop.default.svc.cluster.local"'), r".*(context|labels)")
async def a_cluster_by_its_name(rig: Rig) -> None:
    assert await _fresh(rig, "http", "shop")
    assert not await _fresh(rig, "http", "web")


@CASES(patch(CLUSTER % "portNumber: $http3"), r".*(context|labels)")
async def a_cluster_by_its_port(rig: Rig) -> None:
    assert await _fresh(rig, "http3", "web")
    assert not await _fresh(rig, "http", "web")


# Limits of one configuration share their tokens, also from case to case: hence a name for each.
LISTENER = """applyTo: HTTP_FILTER
    match:
      context: SIDECAR_OUTBOUND
      listener: {%s}
    patch:
      operation: INSERT_BEFORE
      value:
        name: envoy.filters.http.local_ratelimit
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
          stat_prefix: %s
          token_bucket: {max_tokens: 1, tokens_per_fill: 1, fill_interval: 100s}
          filter_enabled: {default_value: {numerator: 100}}
          filter_enforced: {default_value: {numerator: 100}}
"""


async def _limited(rig: Rig) -> None:
    """The second request to the first port is one too many; other ports have no limit."""
    assert [(await rig.ask(host="shop")).status for _ in range(3)] == [200, 429, 429]
    assert [(await rig.ask(port="http3")).status for _ in range(3)] == [200, 200, 200]


MANAGER = "name: envoy.filters.network.http_connection_manager"
ROUTER = f"filterChain: {{filter: {{{MANAGER}, subFilter: {{name: envoy.filters.http.router}}}}}}"


@CASES(patch(LISTENER % (f"portNumber: $http, {ROUTER}", "by_port")), r".*(context|labels|[fF]ilter\.name)")
async def a_filter_on_one_port(rig: Rig) -> None:
    await _limited(rig)


@CASES(patch(LISTENER % (f'name: "127.0.0.1_$http", {ROUTER}', "by_name")), r".*(context|labels|[fF]ilter\.name)")
async def a_filter_on_one_listener(rig: Rig) -> None:
    await _limited(rig)


@CASES(
    patch("""applyTo: VIRTUAL_HOST
    match: {context: SIDECAR_OUTBOUND, proxy: {proxyVersion: "^1[.]30.*", metadata: {ROLE: other}}}
    patch: {operation: MERGE, value: {response_headers_to_add: [{header: {key: x-patched, value: "1"}}]}}"""),
    r".*(applyTo|context|patch.*|labels|proxyVersion)",
)
async def proxies_with_other_metadata_are_not_patched(rig: Rig) -> None:
    assert "x-patched" not in (await rig.ask()).headers


@CASES(
    patch("""applyTo: VIRTUAL_HOST
    match: {context: SIDECAR_OUTBOUND, proxy: {proxyVersion: "^1[.]29.*"}}
    patch: {operation: MERGE, value: {response_headers_to_add: [{header: {key: x-patched, value: "1"}}]}}"""),
    r".*(applyTo|context|patch.*|labels)",
)
async def proxies_of_other_versions_are_not_patched(rig: Rig) -> None:
    assert "x-patched" not in (await rig.ask()).headers


@CASES(
    patch("""applyTo: VIRTUAL_HOST
    match: {context: SIDECAR_INBOUND}
    patch: {operation: MERGE, value: {response_headers_to_add: [{header: {key: x-patched, value: "1"}}]}}"""),
    r".*(applyTo|patch.*|labels)",
)
async def what_comes_in_is_another_context(rig: Rig) -> None:
    assert "x-patched" not in (await rig.ask()).headers


SET = """applyTo: CLUSTER
    match: {cluster: {service: shop.default.svc.cluster.local}}
    patch: {operation: MERGE, value: {max_requests_per_connection: %s}}"""


@CASES(
    f"kind: EnvoyFilter\nspec:\n  priority: 10\n  configPatches:\n  - {SET % 1}\n---\n"
    f"kind: EnvoyFilter\nspec:\n  priority: 5\n  configPatches:\n  - {SET % 100}\n",
    r".*configPatches.*",
)
async def the_later_patch_wins(rig: Rig) -> None:
    assert await _fresh(rig, "http", "shop")


@CASES(
    """
kind: DestinationRule
spec: {host: web, subsets: [{name: v1, labels: {version: v1}}]}
---
kind: VirtualService
spec: {hosts: [web], http: [
  {match: [{uri: {prefix: /s}}], route: [{destination: {host: web, subset: v1}}]},
  {route: [{destination: {host: web}}]}]}
---
"""
    + patch(CLUSTER % "subset: v1, portNumber: $http"),
    r"(DestinationRule|VirtualService).*",
    r".*(context|labels|portNumber)",
)
async def a_cluster_by_its_subset(rig: Rig) -> None:
    await rig.names(9, "/s")
    assert len({one.connection for one in rig.servers.seen}) == 9
    assert not await _fresh(rig, "http", "web")


@CASES(
    """
kind: VirtualService
spec:
  hosts: [web]
  http:
  - {name: mine, match: [{uri: {prefix: /s}}], route: [{destination: {host: shop}}]}
  - {name: other, route: [{destination: {host: web}}]}
---
"""
    + patch("""applyTo: HTTP_ROUTE
    match: {context: SIDECAR_OUTBOUND, routeConfiguration: {vhost: {route: {name: mine}}}}
    patch: {operation: MERGE, value: {response_headers_to_add: [{header: {key: x-patched, value: "1"}}]}}"""),
    r"VirtualService.*match.*|VirtualService.*route.*|VirtualService.*hosts",
    r".*(context|labels)",
)
async def a_route_by_its_name(rig: Rig) -> None:
    assert (await rig.ask("/s")).headers["x-patched"] == "1"
    assert "x-patched" not in (await rig.ask()).headers


FOUND = """applyTo: HTTP_FILTER
    match:
      context: SIDECAR_OUTBOUND
      listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager}}}
    patch:
      operation: INSERT_BEFORE
      value:
        name: found
        config_discovery:
          config_source: {ads: {}, initial_fetch_timeout: 5s, resource_api_version: V3}
          type_urls: [type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation]
"""
EXTENSION = """
  - applyTo: EXTENSION_CONFIG
    match: {context: %s}
    patch:
      operation: ADD
      value:
        name: found
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation
          mutations: {response_mutations: [{append: {header: {key: x-found, value: "%s"}}}]}
"""


@CASES(patch(FOUND, EXTENSION % ("SIDECAR_OUTBOUND", "1")), r".*(context|labels|[fF]ilter\.name)")
async def a_filter_by_discovery(rig: Rig) -> None:
    assert (await rig.ask()).headers["x-found"] == "1"


@CASES(
    patch(FOUND, EXTENSION % ("GATEWAY", "no") + EXTENSION % ("SIDECAR_INBOUND", "1")),
    r".*(labels|[fF]ilter\.name|applyTo|patch\..*)",
)
async def an_extension_configuration_is_for_a_kind_of_proxy(rig: Rig) -> None:
    assert (await rig.ask()).headers["x-found"] == "1"
