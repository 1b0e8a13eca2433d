"""Gateway: protocols other than plain HTTP, and clients that may or must show who they are."""

from __future__ import annotations

from tests.behaviour.case import Cases
from tests.behaviour.cases_gateway import FILES, HTTPS, ROUTED, SAID, gateway
from tests.behaviour.client import Reply, trusting
from tests.behaviour.rig import Rig

CASES = Cases()
BESIDE = (r"VirtualService.*", r".*(port\..*|hosts|selector)")
LINES = """
---
kind: VirtualService
spec:
  hosts: ["*"]
  gateways: [case-0]
  tcp:
  - match: [{port: $gwtcp}]
    route:
    - {destination: {host: shop, port: {number: $tcp2}}, weight: 50}
    - {destination: {host: web, port: {number: $tcp}}, weight: 50}
"""


@CASES(gateway("{port: {number: $gwtcp, name: tcp, protocol: TCP}, hosts: ['*']}", LINES), *BESIDE)
async def bytes_go_through_by_weights(rig: Rig) -> None:
    found = [(await rig.line("gwtcp")).partition("-")[0] for _ in range(40)]
    assert set(found) == {"shop", "web"}
    assert 8 <= found.count("shop") <= 32


@CASES(
    gateway(
        f"{{port: {{number: $gwtcp, name: tls, protocol: TLS}}, hosts: [a.example], tls: {{mode: SIMPLE, {FILES}}}}}",
        LINES.replace('"*"', "a.example"),
    ),
    *BESIDE,
    r".*tls\..*",
)
async def bytes_inside_of_tls_go_on_without_it(rig: Rig) -> None:
    context = trusting(rig.path("roots.pem"))
    assert (await rig.line("gwtcp", tls=context, host="a.example")).endswith(":hello")
    assert await rig.line("gwtcp", tls=context, host="b.example") == ""


@CASES(gateway("{port: {number: $gw, name: web, protocol: GRPC-WEB}, hosts: ['*']}"), *BESIDE)
async def browsers_calls_become_grpc(rig: Rig) -> None:
    said = {"content-type": "application/grpc-web+proto", "content-length": "0"}
    await rig.ask("/a.B/C", port="gw", host="a.example", method="POST", headers=said)
    assert rig.servers.seen[-1].headers["content-type"] == "application/grpc"


async def _https(rig: Rig, roots: str, certificate: tuple[str, str] = ("", "")) -> Reply:
    return await rig.ask(port="gwtls", host="a.example", tls=trusting(roots, *certificate))


@CASES(gateway(f"{{{HTTPS}, tls: {{mode: ISTIO_MUTUAL}}}}", ROUTED), *SAID)
async def clients_come_by_the_meshs_own_tls(rig: Rig) -> None:
    chain, key = rig.mesh.of("cluster.local/ns/default/sa/client")
    roots = str(rig.mesh.root)
    assert (await _https(rig, roots, (str(chain), str(key)))).body == "shop-1"
    assert "spiffe://cluster.local/ns/default/sa/client" in rig.servers.seen[-1].headers["x-forwarded-client-cert"]
    assert (await _https(rig, roots)).status == 0
    stranger = rig.path("client.example.pem"), rig.path("client.example.key")
    assert (await _https(rig, roots, stranger)).status == 0


@CASES(
    gateway(f"{{{HTTPS}, tls: {{mode: OPTIONAL_MUTUAL, {FILES}, caCertificates: $certs/roots.pem}}}}"),
    *SAID,
    r".*tls\.(serverCertificate|privateKey)",
)
async def clients_may_show_a_certificate(rig: Rig) -> None:
    """One that nobody vouches for is worse than none."""
    roots = rig.path("roots.pem")
    assert (await _https(rig, roots)).body == "shop-1"
    assert "x-forwarded-client-cert" not in rig.servers.seen[-1].headers
    for name, status in (("client.example", 200), ("stranger.example", 0)):
        shown = rig.path(f"{name}.pem"), rig.path(f"{name}.key")
        assert (await _https(rig, roots, shown)).status == status
    assert "spiffe://outside/client" in rig.servers.seen[-1].headers["x-forwarded-client-cert"]
