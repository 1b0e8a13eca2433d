"""Servers with and without TLS on one port of a gateway: who has which connections."""

from __future__ import annotations

import pytest

from tests.mesh import world
from tests.mesh.test_gateways import WEB, at_443, gateway, server

PLAIN_TCP = "{port: {number: 443, name: p, protocol: TCP}, hosts: ['*.b.example']}"
ANY = "'*'"
TO_B = "{hosts: ['*'], gateways: [gw], tcp: [{route: [{destination: {host: web.default.svc.cluster.local}}]}]}"
PLAIN_HTTP = "{port: {number: 443, name: p, protocol: HTTP}, hosts: ['*']}"


@pytest.mark.parametrize("plain", [PLAIN_TCP, PLAIN_HTTP])
def test_a_plain_server_has_what_names_no_server_of_a_secure_one(plain: str) -> None:
    texts = (gateway("'*'", f"{server('a.example', 'mode: ISTIO_MUTUAL')}, {plain}"), world.rules("b", TO_B))
    chains, _ = at_443(*texts)
    assert [(chain.match.server_names, chain.tls is not None) for chain in chains] == [
        (("a.example",), True),
        ((), False),
    ]
    assert not [told for told in world.build(*texts).told() if told[1] == "gw"]


def test_after_a_plain_server_no_secure_one_has_its_port() -> None:
    secure = server("a.example", "mode: ISTIO_MUTUAL")
    for plain in (PLAIN_TCP, PLAIN_HTTP):
        texts = (gateway("'*'", f"{plain}, {secure}"), world.rules("b", TO_B))
        (chain,) = world.build(WEB, *texts).router(ports=()).listeners["0.0.0.0_443"].chains
        assert chain.tls is None
        assert ("PORT_CONFLICT", "gw", "spec.servers") in world.build(*texts).told()


def test_a_secure_server_for_all_names_leaves_a_plain_one_nothing() -> None:
    texts = (gateway("'*'", f"{server(ANY, 'mode: ISTIO_MUTUAL')}, {PLAIN_TCP}"), world.rules("b", TO_B))
    (chain,), _ = at_443(*texts)
    assert chain.tls is not None
    assert ("DUPLICATE_HOST", "gw", "spec.servers") in world.build(*texts).told()


def test_subnets_of_destinations_mean_nothing_at_a_gateway() -> None:
    """Connections go to its own pod: rules that ask for subnets serve them all (Istio: l4SingleMatch)."""
    asking = TO_B.replace("tcp: [{", "tcp: [{match: [{destinationSubnets: [10.9.0.0/16]}], ")
    spec = f"{{selector: {{istio: ingressgateway}}, servers: [{PLAIN_TCP}]}}"
    scope = world.build(WEB, world.gateway("gw", spec), world.rules("r", asking)).router()
    (chain,) = scope.listeners["0.0.0.0_443"].chains
    assert chain.match.prefixes == ()
    assert chain.tcp is not None
