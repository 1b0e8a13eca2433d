"""EnvoyFilters by chance whose values Envoy may not like, beside the generated objects of one configuration.

What they set is something that people patch, with one value in a few replaced by an odd one. Where they set it is drawn
by the same maker as everything else.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, Final

from crds import envoy_filter, parse
from crds.meta import Object
from tests.generated import configurations
from tests.generated.maker import ODD_DURATIONS, ODD_NUMBERS, ODD_TEXTS, Document, Maker
from tests.generated.rules import NEEDED, RULES

_EXTENSIONS: Final = "type.googleapis.com/envoy.extensions."
_MANAGER: Final = "envoy.filters.network.http_connection_manager"
_IN_MANAGER: Final = {"listener": {"filterChain": {"filter": {"name": _MANAGER}}}}
_LIMIT: Final = {
    "@type": f"{_EXTENSIONS}filters.http.local_ratelimit.v3.LocalRateLimit",
    "stat_prefix": "limits",
    "token_bucket": {"max_tokens": 5, "tokens_per_fill": 5, "fill_interval": "1s"},
    "filter_enabled": {"default_value": {"numerator": 50, "denominator": "HUNDRED"}},
}
_SCRIPT: Final = {
    "@type": f"{_EXTENSIONS}filters.http.lua.v3.Lua",
    "default_source_code": {"inline_string": "function envoy_on_request(h) end"},
}
_BUFFER: Final = {"@type": f"{_EXTENSIONS}filters.http.buffer.v3.Buffer", "max_request_bytes": 1024}
_OPTIONS: Final = {
    "@type": f"{_EXTENSIONS}filters.network.http_connection_manager.v3.HttpConnectionManager",
    "max_request_headers_kb": 96,
    "stream_idle_timeout": "5s",
    "server_name": "edge",
    "common_http_protocol_options": {"max_requests_per_connection": 100, "idle_timeout": "1m"},
    "http2_protocol_options": {"max_concurrent_streams": 100, "initial_stream_window_size": 65536},
}
_PROXY: Final = {"@type": f"{_EXTENSIONS}filters.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "a", "cluster": "added"}
_CHAIN: Final = {"filters": [{"name": "tcp", "typed_config": _PROXY}]}
_ADDRESS: Final = {"socket_address": {"address": "10.1.0.9", "port_value": 7777}}
_PATCHES: Final[tuple[tuple[str, str, Document, Any], ...]] = (
    ("HTTP_FILTER", "INSERT_FIRST", _IN_MANAGER, {"name": "limit", "typed_config": _LIMIT}),
    ("HTTP_FILTER", "INSERT_BEFORE", _IN_MANAGER, {"name": "script", "typed_config": _SCRIPT}),
    ("HTTP_FILTER", "INSERT_FIRST", _IN_MANAGER, {"name": "buffer", "typed_config": _BUFFER}),
    ("NETWORK_FILTER", "MERGE", _IN_MANAGER, {"typed_config": _OPTIONS}),
    ("NETWORK_FILTER", "INSERT_FIRST", {}, {"name": "tcp", "typed_config": _PROXY}),
    ("FILTER_CHAIN", "MERGE", {}, {"transport_socket_connect_timeout": "3s", "name": "patched"}),
    ("LISTENER", "MERGE", {}, {"per_connection_buffer_limit_bytes": 4096, "listener_filters_timeout": "2s"}),
    ("LISTENER", "ADD", {}, {"name": "added", "address": _ADDRESS, "filter_chains": [_CHAIN]}),
    ("CLUSTER", "ADD", {}, {"name": "added", "type": "STATIC", "connect_timeout": "1s", "lb_policy": "RANDOM"}),
    ("CLUSTER", "MERGE", {}, {"max_requests_per_connection": 3, "upstream_connection_options": {"tcp_keepalive": {}}}),
    (
        "CLUSTER",
        "MERGE",
        {},
        {"outlier_detection": {"consecutive_5xx": 3, "interval": "10s", "max_ejection_percent": 9}},
    ),
    ("CLUSTER", "MERGE", {}, {"common_lb_config": {"healthy_panic_threshold": {"value": 50.0}}}),
    (
        "ROUTE_CONFIGURATION",
        "MERGE",
        {},
        {"response_headers_to_remove": ["x-a"], "max_direct_response_body_size_bytes": 9},
    ),
    ("VIRTUAL_HOST", "MERGE", {}, {"retry_policy": {"retry_on": "5xx", "num_retries": 3, "per_try_timeout": "1s"}}),
    ("VIRTUAL_HOST", "ADD", {}, {"name": "more", "domains": ["more.example"], "request_headers_to_remove": ["x-b"]}),
    (
        "HTTP_ROUTE",
        "INSERT_FIRST",
        {},
        {"match": {"safe_regex": {"regex": "/a(b|c)"}}, "direct_response": {"status": 204}, "name": "own"},
    ),
    ("HTTP_ROUTE", "MERGE", {}, {"route": {"timeout": "4s", "idle_timeout": "9s"}, "decorator": {"operation": "o"}}),
    (
        "VIRTUAL_HOST",
        "MERGE",
        {},
        {"request_headers_to_add": [{"header": {"key": "x-a", "value": "%REQ(x-b)%"}}]},
    ),
)
_ODD_VALUE: Final = 0.7
"""How likely a value has an odd part."""
_MISSING: Final = 0.4
"""How likely that part is not there at all."""


def drawn(seed: int) -> tuple[envoy_filter.EnvoyFilter | None, list[Object]]:
    """An EnvoyFilter, None where the checks refuse it, and the other objects of its configuration."""
    others = [each for each in configurations.configuration(seed) if each["kind"] != "EnvoyFilter"]
    maker = Maker(seed, {**RULES, envoy_filter.EnvoyFilterSpec: _spec}, NEEDED, full=0.3, odd=0.02)
    document = configurations.generated(maker, "EnvoyFilter", "generated-own")
    document["metadata"]["namespace"] = maker.random.choice(("default", "istio-system"))
    item = parse.parse(document).object
    assert item is None or isinstance(item, envoy_filter.EnvoyFilter)
    return item, [each for each in map(configurations.accepted, others) if each is not None]


def _spec(maker: Maker, _: Document) -> Document:
    """Of one patch, two or three; few look at the context."""
    return {"configPatches": [_patch(maker) for _ in range(maker.random.choice((1, 1, 2, 3)))]}


def _patch(maker: Maker) -> Document:
    apply_to, operation, match, value = copy.deepcopy(maker.random.choice(_PATCHES))
    if maker.chance(_ODD_VALUE):
        holder, step = maker.random.choice(list(_leaves(value)))
        if maker.chance(_MISSING):
            del holder[step]
        else:
            holder[step] = _odd(maker, holder[step])
    context = maker.random.choice(("ANY", "ANY", "SIDECAR_INBOUND", "SIDECAR_OUTBOUND", "GATEWAY"))
    return {
        "applyTo": apply_to,
        "match": {**match, "context": context},
        "patch": {"operation": operation, "value": value},
    }


def _leaves(part: Any) -> Iterator[tuple[Any, Any]]:
    """Where a value may be replaced: texts, numbers and empty objects; no types, nor addresses, which tests change."""
    for step, each in enumerate(part) if isinstance(part, list) else part.items():
        if isinstance(each, dict | list) and each and step != "address":
            yield from _leaves(each)
        elif step not in ("@type", "address"):
            yield part, step


def _odd(maker: Maker, value: Any) -> Any:
    if isinstance(value, str) and value[:-1].isdigit():
        return maker.random.choice(ODD_DURATIONS)
    if isinstance(value, str):
        return maker.random.choice(ODD_TEXTS)
    return maker.random.choice(ODD_NUMBERS) if isinstance(value, int | float) else {"keepalive_time": 0}
