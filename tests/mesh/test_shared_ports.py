"""Servers with and without TLS on one port of a gateway: who has which connections."""

from __future__ import annotations

import pytest

from crds.diagnostic import Code
from tests.mesh import world
from tests.mesh.test_gateways import FILES, INGRESS, TLS, WEB, at_443, gateway, server

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


def young(*servers: str) -> str:
    return world.gateway("young", f"{{{INGRESS}, servers: [{', '.join(servers)}]}}", created="2024-01-01T00:00:00Z")


@pytest.mark.parametrize("mode", ["mode: ISTIO_MUTUAL", "mode: PASSTHROUGH", "mode: AUTO_PASSTHROUGH"])
def test_a_host_is_the_older_servers_and_the_younger_one_is_left_out_and_told(mode: str) -> None:
    """With all its hosts, as on Istio; a server beside it stays."""
    theirs = server("a.example, b.example", f"mode: SIMPLE, {FILES}")
    texts = (gateway("'*'", server("a.example", mode)), young(theirs, server("c.example", "mode: ISTIO_MUTUAL")))
    route = "match: [{sniHosts: [a.example]}], route: [{destination: {host: web, port: {number: 80}}}]"
    rule = world.rules("r", f"{{hosts: ['*'], gateways: [gw], tls: [{{{route}}}]}}")
    chains, _ = at_443(*texts, rule)
    assert {name for chain in chains for name in chain.match.server_names} - {"a.example"} == {"c.example"}
    (told,) = (one for one in world.build(*texts).findings() if one.code is Code.DUPLICATE_HOST)
    assert told.key is not None
    assert (told.key.name, told.field) == ("young", "spec.servers")
    assert "Gateway default/gw has a.example already; the server is left out" in told.message


def test_of_two_servers_that_pass_one_host_through_the_older_serves() -> None:
    """Though the rules of both lead different names on."""

    def rule(name: str, sni: str) -> str:
        route = f"match: [{{sniHosts: [{sni}]}}], route: [{{destination: {{host: web, port: {{number: 80}}}}}}]"
        return world.rules(name, f"{{hosts: ['*'], gateways: [{name}], tls: [{{{route}}}]}}")

    through = server("'*.example'", "mode: PASSTHROUGH", TLS)
    texts = (gateway("'*'", through), young(through), rule("gw", "a.example"), rule("young", "b.example"))
    chains, _ = at_443(*texts)
    assert [chain.match.server_names for chain in chains] == [("a.example",)]
    assert ("DUPLICATE_HOST", "young", "spec.servers") in world.build(*texts).told()


def test_servers_that_bind_elsewhere_or_say_other_namespaces_share_no_host() -> None:
    bound = server("a.example", "mode: ISTIO_MUTUAL").replace("hosts:", "bind: 10.0.0.1, hosts:")
    mesh = world.build(WEB, gateway("'*'", server("a.example", "mode: ISTIO_MUTUAL")), young(bound))
    assert sorted(mesh.router().listeners) == ["0.0.0.0_443", "0.0.0.0_8080", "10.0.0.1_443"]
    assert mesh.told() == []
    texts = (
        gateway("'*'", server("default/a.example", "mode: ISTIO_MUTUAL")),
        young(server("a.example, b.example", f"mode: SIMPLE, {FILES}")),
    )
    chains, _ = at_443(*texts)
    assert [chain.match.server_names for chain in chains] == [("a.example",), ("b.example",)]
    assert ("DUPLICATE_HOST", "young", "spec.servers") in world.build(*texts).told()


def test_a_server_without_a_name_left_has_no_table() -> None:
    new = young(server("default/a.example", "mode: ISTIO_MUTUAL"))
    old = world.gateway("gw", f"{{{INGRESS}, servers: [{server('a.example', f'mode: SIMPLE, {FILES}')}]}}")
    _, scope = at_443(old, new)
    assert sorted(scope.routes) == ["https.443.https.gw.default"]
