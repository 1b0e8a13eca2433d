"""Versions of Envoy: which are told apart, and that nobody else pays for it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from istiod.config.proxy import Proxy
from istiod.mesh import context, envoy_release
from istiod.mesh.envoy_release import Release
from tests.mesh import fleet


def with_envoy(proxy: Proxy, *version: int) -> Proxy:
    return replace(proxy, node=replace(proxy.node, envoy=version))


@pytest.mark.parametrize(
    ("version", "release", "untried"),
    [
        ((), Release.CURRENT, False),
        ((1, 40, 0), Release.CURRENT, False),
        ((1, 41, 2), Release.CURRENT, False),
        ((2, 0, 0), Release.CURRENT, False),
        ((1, 39, 9), Release.V1_38, False),
        ((1, 38, 0), Release.V1_38, False),
        ((1, 37, 1), Release.V1_36, False),
        ((1, 36, 0), Release.V1_36, False),
        ((1, 35, 9), Release.V1_36, True),
        ((0, 0, 0), Release.V1_36, True),
    ],
)
def test_a_version_gets_what_the_release_before_it_takes(
    version: tuple[int, ...], release: Release, *, untried: bool
) -> None:
    node = with_envoy(fleet.proxy(), *version).node
    assert (envoy_release.of(node), envoy_release.is_untried(node)) == (release, untried)
    assert str(Release.V1_38) == "1.38"


@pytest.mark.parametrize("kind", ["sidecar", "router"])
def test_proxies_of_one_release_share_a_scope(kind: str) -> None:
    mesh = fleet.Mesh(fleet.kube_service("web")).context
    versions = ((), (1, 40, 1), (1, 38, 3), (1, 38, 4), (1, 37, 0))
    proxies = [with_envoy(fleet.proxy(f"client-{n}", kind=kind), *one) for n, one in enumerate(versions)]
    nothing, new, one, other, old = (context.scope(mesh, proxy) for proxy in proxies)
    assert nothing.outbound is new.outbound
    assert one.outbound is other.outbound
    keys = [each.outbound.key.envoy for each in (new, one, old)]
    assert keys == [Release.CURRENT, Release.V1_38, Release.V1_36]
    assert all(one.outbound.clusters[name] is leaf for name, leaf in new.outbound.clusters.items())
