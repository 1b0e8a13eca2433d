"""What two mesh configurations, a shared one and the revision's own, say together."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from crds import shared_mesh


@pytest.mark.parametrize(
    ("own", "shared", "both"),
    [
        ("{trustDomain: a}", "{accessLogFile: /dev/stdout}", {"trustDomain": "a", "accessLogFile": "/dev/stdout"}),
        ("{trustDomain: a}", "{trustDomain: b}", {"trustDomain": "a"}),
        ("{trustDomain: null}", "{trustDomain: b}", {"trustDomain": "b"}),
        ("{trust_domain: a}", "{trustDomain: b}", {"trustDomain": "a"}),
        ("", "{trustDomain: b}", {"trustDomain": "b"}),
        # a field is replaced as a whole ...
        (
            "{outboundTrafficPolicy: {mode: ALLOW_ANY}}",
            "{outboundTrafficPolicy: {mode: REGISTRY_ONLY, egressProxy: {host: a}}}",
            {"outboundTrafficPolicy": {"mode": "ALLOW_ANY"}},
        ),
        # ... but for proxies' settings, which are merged, and their variables
        (
            "{defaultConfig: {concurrency: 1, proxyMetadata: {A: own}}}",
            "{defaultConfig: {concurrency: 2, drainDuration: 5s, proxy_metadata: {A: shared, B: shared}}}",
            {"defaultConfig": {"concurrency": 1, "drainDuration": "5s", "proxyMetadata": {"A": "own", "B": "shared"}}},
        ),
        (
            "{defaultConfig: {concurrency: 1}}",
            "{defaultConfig: {drainDuration: 5s}}",
            {"defaultConfig": {"concurrency": 1, "drainDuration": "5s"}},
        ),
        (
            "{trustDomain: a}",
            "{defaultConfig: {concurrency: 2}}",
            {"trustDomain": "a", "defaultConfig": {"concurrency": 2}},
        ),
        (
            "{defaultProviders: {tracing: [a]}}",
            "{defaultProviders: {tracing: [b], metrics: [c]}}",
            {"defaultProviders": {"tracing": ["a"], "metrics": ["c"]}},
        ),
        (
            "{extensionProviders: [{name: b, zipkin: {port: 2}}, {name: c}]}",
            "{extensionProviders: [{name: a}, {name: b, zipkin: {port: 1}}]}",
            {"extensionProviders": [{"name": "a"}, {"name": "b", "zipkin": {"port": 2}}, {"name": "c"}]},
        ),
        (
            "{extensionProviders: [{name: [a]}, b]}",
            "{extensionProviders: [{name: a}]}",
            {"extensionProviders": [{"name": "a"}, {"name": ["a"]}, "b"]},
        ),
        (
            "{extensionProviders: [{name: c}]}",
            "{trustDomain: b}",
            {"extensionProviders": [{"name": "c"}], "trustDomain": "b"},
        ),
        (
            "{trustDomainAliases: [a, b]}",
            "{trustDomainAliases: [b, c]}",
            {"trustDomainAliases": ["b", "c", "a"]},
        ),
        ("{trustDomainAliases: [a]}", "{trustDomain: b}", {"trustDomainAliases": ["a"], "trustDomain": "b"}),
    ],
)
def test_the_own_text_is_read_above_the_shared_one(own: str, shared: str, both: dict[str, Any]) -> None:
    assert yaml.safe_load(shared_mesh.merged(own, shared)) == both


@pytest.mark.parametrize("shared", ["", "# nothing", "{", "- a", "{trustDomain: [1]}", "{connectTimeout: soon}"])
def test_what_is_no_configuration_is_left_out(shared: str) -> None:
    assert shared_mesh.merged("trustDomain: a # mine", shared) == "trustDomain: a # mine"


@pytest.mark.parametrize("own", ["{", "- a"])
def test_an_own_text_that_cannot_be_read_is_left_to_its_reader(own: str) -> None:
    assert shared_mesh.merged(own, "{trustDomain: b}") == own
