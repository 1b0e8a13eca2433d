"""Clusters and filters of hosts that Envoy resolves when they are asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from istiod.envoy import cluster, listener
from istiod.mesh.families import Families
from istiod.mesh.policy import OutlierDetection, TlsMode, TrafficPolicy
from istiod.mesh.scope import (
    Chain,
    Cluster,
    Direction,
    Discovery,
    DnsCache,
    Http,
    Listener,
    Lookup,
    Tcp,
    UpstreamTls,
    WeightedCluster,
)
from tests.envoy import made

CACHE = DnsCache(name="*.a.com_dfp_dns_cache")
SHOWN = {"name": "*.a.com_dfp_dns_cache", "dns_lookup_family": "V4_ONLY"}


def dynamic(**changes: object) -> Cluster:
    fields: dict[str, object] = {"discovery": Discovery.DYNAMIC_DNS, "query": None, "tls": None, "cache": CACHE}
    return made.cluster(**{**fields, **changes})


def config(one: Cluster) -> dict[str, Any]:
    kind = made.shown(cluster.message(one, made.SETTINGS))["cluster_type"]
    assert kind["name"] == "envoy.clusters.dynamic_forward_proxy"
    return {name: value for name, value in kind["typed_config"].items() if name != "@type"}


def test_the_cluster_is_of_a_kind_that_chooses_itself() -> None:
    found = made.shown(cluster.message(dynamic(), made.SETTINGS))
    assert (found["lb_policy"], "type" in found, "common_lb_config" in found) == ("CLUSTER_PROVIDED", False, False)
    assert config(dynamic()) == {"dns_cache_config": SHOWN, "allow_insecure_cluster_options": True}
    ejecting = dynamic(policy=TrafficPolicy(outlier_detection=OutlierDetection(min_health_percent=30)))
    assert made.shown(cluster.message(ejecting, made.SETTINGS))["common_lb_config"] == {
        "healthy_panic_threshold": {"value": 30}
    }


@pytest.mark.parametrize(
    ("tls", "checked"),
    [
        (UpstreamTls(mode=TlsMode.SIMPLE), True),
        (UpstreamTls(mode=TlsMode.SIMPLE, sni="b.com"), False),
        (UpstreamTls(mode=TlsMode.SIMPLE, subject_alt_names=("b.com",)), False),
        (UpstreamTls(mode=TlsMode.SIMPLE, insecure_skip_verify=True), False),
    ],
)
def test_certificates_are_checked_against_the_host_unless_the_user_says_else(
    tls: UpstreamTls, *, checked: bool
) -> None:
    assert ("allow_insecure_cluster_options" not in config(dynamic(tls=tls))) is checked


@pytest.mark.parametrize(("families", "shown"), [(Families.IPV6, "V6_ONLY"), (Families.DUAL, "ALL")])
def test_the_cache_says_which_addresses_and_how_many(families: Families, shown: str) -> None:
    found = config(dynamic(cache=replace(CACHE, families=families, most_hosts=5)))["dns_cache_config"]
    assert found == {"name": CACHE.name, "dns_lookup_family": shown, "max_hosts": 5}


def test_filters_before_the_last_look_hosts_up() -> None:
    http = Chain(name="", http=Http(stat_prefix="x", rds="80", caches=(CACHE,), grpc_web=True))
    target = Tcp(stat_prefix="x", clusters=(WeightedCluster(cluster="c"),), lookups=(Lookup(cache=CACHE, port=443),))
    served = Listener(
        name="l", address="0.0.0.0", port=443, direction=Direction.OUTBOUND, chains=(http, Chain(name="", tcp=target))
    )
    first, second = listener.message(served, made.SETTINGS).filter_chains
    filters = [one.name for one in made.manager(first).http_filters]
    plain = replace(served, chains=(replace(http, http=Http(stat_prefix="x", rds="80", caches=(CACHE,))),))
    (other,) = listener.message(plain, made.SETTINGS).filter_chains
    more = [*(one.name for one in made.manager(other).http_filters), "envoy.filters.http.grpc_web"]
    assert sorted(more) == sorted(filters)
    assert filters[-2:] == ["envoy.filters.http.dynamic_forward_proxy", "envoy.filters.http.router"]
    found = [made.shown(one) for one in second.filters]
    assert [one["name"].rpartition(".")[2] for one in found] == ["sni_dynamic_forward_proxy", "tcp_proxy"]
    assert made.picked(found[0]["typed_config"], "dns_cache_config", "port_value") == {
        "dns_cache_config": SHOWN,
        "port_value": 443,
    }
