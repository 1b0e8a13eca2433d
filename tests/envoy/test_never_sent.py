"""Which connection managers tell callers that the app did not get a request, and what EnvoyFilters make of it."""

from __future__ import annotations

from typing import Any

import pytest

from istiod.envoy import listener, patched_listeners
from istiod.envoy.patched import INBOUND
from istiod.mesh import inbound_routes
from istiod.mesh.route import Retry, RouteTable
from istiod.mesh.scope import Chain, Direction, Http, Listener
from tests.envoy import made
from tests.envoy.patching import HCM, MANAGER, patch, patches

UNAVAILABLE = {
    "filter": {"response_flag_filter": {"flags": ["UF"]}},
    "headers_to_add": [{"header": {"key": "grpc-status", "value": "14"}, "append_action": "ADD_IF_ABSENT"}],
}
EVERY_ERROR = {
    "filter": {"status_code_filter": {"comparison": {"op": "GE", "value": {"default_value": 500, "runtime_key": "x"}}}},
    "body": {"inline_string": "sorry"},
}


def of(direction: Direction = Direction.INBOUND, table: RouteTable | None = None) -> Listener:
    chain = Chain(name="http", http=Http(stat_prefix="x", inline=table))
    return Listener(name="l", address="0.0.0.0", port=80, direction=direction, chains=(chain,))


def replies(leaf: Listener, *said: dict[str, Any]) -> list[dict[str, Any]]:
    """The mappers of its connection manager, with these patches."""
    message = listener.message(leaf, made.QUIET)
    assert patched_listeners.listener(message, patches(*said, context=INBOUND))
    found: dict[str, Any] = made.shown(made.manager(message.filter_chains[0]))
    return list(found.get("local_reply_config", {}).get("mappers", []))


def merging(operation: str, config: dict[str, Any]) -> dict[str, Any]:
    place = {"filterChain": {"filter": {"name": MANAGER}}}
    return patch("NETWORK_FILTER", operation, {"typed_config": {"@type": HCM, **config}}, listener=place)


def test_a_sidecar_says_so_to_callers_and_nobody_else_does() -> None:
    assert [replies(of(each)) for each in (Direction.INBOUND, Direction.OUTBOUND, Direction.GATEWAY)] == [
        [UNAVAILABLE],
        [],
        [],
    ]


@pytest.mark.parametrize(
    ("retry", "told"),
    [
        (None, True),
        (Retry(attempts=0, retry_on=""), True),
        (Retry(attempts=0, retry_on="5xx"), True),
        (Retry(attempts=3, retry_on="connect-failure,reset-before-request"), True),
        (Retry(attempts=3, retry_on="reset-before-request,reset"), False),
        (Retry(attempts=1, retry_on="retriable-status-codes", status_codes=(418,)), False),
    ],
)
def test_not_where_an_earlier_try_may_have_reached_the_app(retry: Retry | None, *, told: bool) -> None:
    assert replies(of(table=inbound_routes.table("inbound|80||", "web", 80, retry))) == ([UNAVAILABLE] if told else [])


def test_mappers_of_envoy_filters_come_first() -> None:
    assert replies(of(), merging("MERGE", {"local_reply_config": {"mappers": [EVERY_ERROR]}})) == [
        EVERY_ERROR,
        UNAVAILABLE,
    ]


def test_a_patch_without_mappers_changes_nothing_of_it() -> None:
    assert replies(of(), merging("MERGE", {"server_name": "x"})) == [UNAVAILABLE]


def test_a_patch_may_take_it_away() -> None:
    wanted = {"local_reply_config": {"mappers": [EVERY_ERROR]}}
    assert replies(of(), merging("MERGE_AND_REPLACE_LIST", wanted)) == [EVERY_ERROR]
