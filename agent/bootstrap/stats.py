"""``stats_config``: Istio's tags and its short inclusion list (features row C3; measurements.md "default tags").

Without the inclusion list a proxy of 1,000 services holds 150,000 statistics; dashboards read about fifty of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from agent import grpc_messages
from agent.bootstrap import metadata
from agent.bootstrap.inputs import InputError, Inputs
from wire import names

_PREFIX: Final = "sidecar.istio.io/"
_ADDRESS: Final = r"(?:[_.[:digit:]]*|[_\[\]aAbBcCdDeEfF[:digit:]]*)"
_TAGS_BEFORE: Final = (
    ("cluster_name", r"^cluster(\.(.+);)"),
    ("http_conn_manager_prefix", r"^http\.(((?:[_.[:digit:]\w]*|[_\[\]aAbBcCdDeEfF[:digit:]\w\:]*));\.)"),
    ("thread_name", r"^server(\.(.+))\.watchdog"),
    ("tcp_prefix", r"^tcp\.((.*?)\.)\w+?$"),
    ("response_code", r"_rq(_(\d{3}))$"),
    ("response_code_class", r"_rq(_(\dxx))$"),
    ("http_conn_manager_listener_prefix", rf"^listener(?=\.).*?\.http\.(({_ADDRESS})\.)"),
    ("listener_address", rf"^listener\.(({_ADDRESS})\.)"),
    ("mongo_prefix", r"^mongo\.(.+?)\.(collection|cmd|cx_|op_|delays_|decoding_)(.*?)$"),
)
_TAGS_AFTER: Final = (
    ("cache", r"(cache\.(.+?)\.)"),
    ("component", r"(component\.(.+?)\.)"),
    ("tag", r"(tag\.(.+?);\.)"),
    ("wasm_filter", r"(wasm_filter\.(.+?)\.)"),
    ("authz_enforce_result", r"rbac(\.(allowed|denied))"),
    ("authz_dry_run_action", r"(\.istio_dry_run_(allow|deny)_)"),
    ("authz_dry_run_result", r"(\.shadow_(allowed|denied))"),
)
_PREFIXES: Final = ("cluster_manager", "listener_manager", "server", "cluster.xds-grpc", "wasm")
_SUFFIXES: Final = ("rbac.allowed", "rbac.denied", "shadow_allowed", "shadow_denied")
_REGEXPS: Final = (r"vhost\..*\.route\..*",)
EXIT_ON_ZERO: Final = "EXIT_ON_ZERO_ACTIVE_CONNECTIONS"
ACTIVE_CONNECTIONS: Final = "downstream_cx_active"
INBOUND_REQUESTS: Final = r"^cluster\.inbound\|.*\.upstream_rq_active$"


def config(inputs: Inputs, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The whole ``stats_config``; ``facts`` is the node's metadata.

    Raises:
        InputError: the annotation statsHistogramBuckets is no JSON object.
    """
    tags = (*_TAGS_BEFORE, *((tag, rf"({tag}=\.=(.*?);\.;)") for tag in _extra_tags(inputs, facts)), *_TAGS_AFTER)
    settings: dict[str, Any] = {
        "use_all_default_tags": False,
        "stats_tags": [{"tag_name": name, "regex": regex} for name, regex in tags],
        "stats_matcher": {"inclusion_list": {"patterns": _patterns(inputs, facts)}},
    }
    buckets = _buckets(facts)
    if buckets:
        settings["histogram_bucket_settings"] = buckets
    return settings


def _patterns(inputs: Inputs, facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    suffixes = (*_SUFFIXES, ACTIVE_CONNECTIONS) if inputs.environment.get(EXIT_ON_ZERO) == "true" else _SUFFIXES
    counted = (INBOUND_REQUESTS,) if inputs.environment.get(names.DRAIN_UNTIL_ACKNOWLEDGED) == "true" else ()
    return [
        {"prefix": "reporter="},
        *({"prefix": value} for value in (*_wanted(inputs, facts, "Prefixes"), *_PREFIXES)),
        *({"suffix": value} for value in (*_wanted(inputs, facts, "Suffixes"), *suffixes)),
        *({"safe_regex": {"regex": value}} for value in (*_wanted(inputs, facts, "Regexps"), *_REGEXPS, *counted)),
        {"prefix": "component"},
        {"prefix": "istio"},
        *({"suffix": value} for value in grpc_messages.SUFFIXES),
    ]


def _wanted(inputs: Inputs, facts: Mapping[str, Any], which: str) -> list[str]:
    """The user's additions: the annotation's, else ProxyConfig.proxyStatsMatcher's (Istio does not merge them)."""
    annotated = metadata.annotation(facts, f"{_PREFIX}statsInclusion{which}")
    given: Sequence[str] = [value for value in annotated.split(",") if value]
    if not given:
        given = (inputs.config.get("proxyStatsMatcher") or {}).get(f"inclusion{which}") or ()
    pods = tuple(dict.fromkeys(inputs.addresses))
    return [value.replace("{pod_ip}", pod) for value in given for pod in (pods if "{pod_ip}" in value else ("",))]


def _extra_tags(inputs: Inputs, facts: Mapping[str, Any]) -> list[str]:
    annotated = metadata.annotation(facts, f"{_PREFIX}extraStatTags").split(",")
    return list(dict.fromkeys(tag for tag in (*inputs.config.get("extraStatTags", ()), *annotated) if tag))


def _buckets(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    text = metadata.annotation(facts, f"{_PREFIX}statsHistogramBuckets")
    if not text:
        return []
    try:
        wanted = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"annotation {_PREFIX}statsHistogramBuckets is no JSON: {error}") from error
    if not isinstance(wanted, Mapping):
        raise InputError(f"annotation {_PREFIX}statsHistogramBuckets must be a JSON object")
    return [{"match": {"prefix": prefix}, "buckets": list(wanted[prefix])} for prefix in sorted(wanted)]
