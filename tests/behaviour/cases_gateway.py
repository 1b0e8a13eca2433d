"""Gateway: what its servers accept, for which hosts, and how they end TLS."""

from __future__ import annotations

from typing import Any

from tests.behaviour.case import Cases
from tests.behaviour.client import Reply, trusting
from tests.behaviour.rig import Rig

CASES = Cases()
RULE = r"VirtualService.*"
PORT = r".*port\.(name|number|protocol)"
ROUTED = """
---
kind: VirtualService
spec:
  hosts: ["*"]
  gateways: [case-0]
  http: [{route: [{destination: {host: shop, port: {number: $http}}}]}]
"""


def gateway(server: str, more: str = ROUTED) -> str:
    """A gateway with this server, that leads everything to shop."""
    return f"kind: Gateway\nspec:\n  selector: {{app: gw}}\n  servers:\n  - {server}\n{more}"


@CASES(
    gateway("{port: {number: $gw, name: http, protocol: HTTP}, hosts: [a.example]}"),
    r"VirtualService spec\.(hosts|http.*)",
    r".*(port\.name|selector)",
)
async def only_its_hosts_come_in(rig: Rig) -> None:
    assert (await rig.ask(port="gw", host="a.example")).body == "shop-1"
    assert (await rig.ask(port="gw", host="b.example")).status == 404


@CASES(
    """
kind: Gateway
spec:
  selector: {app: gw}
  servers: [{port: {number: $gw, name: http, protocol: HTTP}, hosts: ["*"]}]
---
kind: Gateway
spec:
  selector: {app: other}
  servers: [{port: {number: $gw2, name: http, protocol: HTTP}, hosts: ["*"]}]
---
kind: VirtualService
spec:
  hosts: ["*"]
  gateways: [case-0, case-1]
  http: [{route: [{destination: {host: shop, port: {number: $http}}}]}]
""",
    RULE,
    PORT,
    r".*hosts",
)
async def only_the_proxies_that_it_selects_serve_it(rig: Rig) -> None:
    assert (await rig.ask(port="gw")).body == "shop-1"
    assert (await rig.ask(port="gw2")).status == 0


@CASES(
    gateway("{port: {number: $gw, name: http, protocol: HTTP}, bind: 127.0.0.1, hosts: ['*']}"),
    RULE,
    PORT,
    r".*(hosts|selector)",
)
async def it_listens_where_it_is_bound(rig: Rig) -> None:
    assert (await rig.ask(port="gw")).body == "shop-1"
    assert (await rig.ask(port="gw", address="127.7.7.7")).status == 0


@CASES(
    gateway("{port: {number: $gw, name: http, protocol: HTTP}, hosts: ['*'], tls: {httpsRedirect: true}}"),
    RULE,
    PORT,
    r".*(hosts|selector)",
)
async def plaintext_is_redirected(rig: Rig) -> None:
    back = await rig.ask("/x", port="gw", host="a.example")
    assert (back.status, back.headers["location"]) == (301, "https://a.example/x")


HTTPS = "port: {number: $gwtls, name: https, protocol: HTTPS}, hosts: ['*']"
FILES = "serverCertificate: $certs/a.example.pem, privateKey: $certs/a.example.key"
SAID = (RULE, PORT, r".*(hosts|selector)")


async def _https(rig: Rig, certificate: str = "", name: str = "a.example", **said: Any) -> Reply:
    own = (rig.path(f"{certificate}.pem"), rig.path(f"{certificate}.key")) if certificate else ("", "")
    context = trusting(rig.path("roots.pem"), *own)
    for key, value in said.items():
        if key == "ciphers":
            context.set_ciphers(str(value))
        else:
            setattr(context, key, value)
    return await rig.ask(port="gwtls", host=name, tls=context)


@CASES(gateway(f"{{{HTTPS}, tls: {{mode: SIMPLE, {FILES}}}}}"), *SAID)
async def tls_by_certificates_of_files(rig: Rig) -> None:
    back = await _https(rig)
    assert (back.body, back.certificate) == ("shop-1", ("a.example",))


@CASES(
    gateway(
        f"{{{HTTPS}, tls: {{mode: SIMPLE, tlsCertificates: ["
        "{serverCertificate: $certs/a.example.pem, privateKey: $certs/a.example.key},"
        " {serverCertificate: $certs/external.example.pem, privateKey: $certs/external.example.key}]}}"
    ),
    *SAID,
)
async def several_certificates_of_files(rig: Rig) -> None:
    assert (await _https(rig)).certificate == ("a.example",)
    assert "external.example" in (await _https(rig, name="external.example")).certificate


MUTUAL = f"mode: MUTUAL, {FILES}, caCertificates: $certs/roots.pem"


@CASES(gateway(f"{{{HTTPS}, tls: {{{MUTUAL}}}}}"), *SAID)
async def clients_have_to_show_a_certificate(rig: Rig) -> None:
    assert (await _https(rig, "client.example")).body == "shop-1"
    assert (await _https(rig)).status == 0
    assert (await _https(rig, "stranger.example")).status == 0


@CASES(
    gateway(f"{{{HTTPS}, tls: {{{MUTUAL}, subjectAltNames: ['spiffe://outside/client']}}}}"),
    *SAID,
    r".*tls\.(mode|ca.*|serv.*|priv.*)",
)
async def clients_have_to_have_a_name(rig: Rig) -> None:
    assert (await _https(rig, "client.example")).body == "shop-1"
    assert (await _https(rig, "b.example")).status == 0


@CASES(
    gateway(f"{{{HTTPS}, tls: {{{MUTUAL}, caCrl: $certs/some.crl}}}}"), *SAID, r".*tls\.(mode|caCert.*|serv.*|priv.*)"
)
async def revoked_clients_are_refused(rig: Rig) -> None:
    assert (await _https(rig, "client.example")).body == "shop-1"
    assert (await _https(rig, "revoked.example")).status == 0


@CASES(
    gateway(f"{{{HTTPS}, tls: {{{MUTUAL}, verifyCertificateSpki: [$spki]}}}}"),
    *SAID,
    r".*tls\.(mode|ca.*|serv.*|priv.*)",
)
async def clients_of_this_key_only(rig: Rig) -> None:
    assert (await _https(rig, "client.example")).body == "shop-1"
    assert (await _https(rig, "b.example")).status == 0


@CASES(
    gateway(f"{{{HTTPS}, tls: {{{MUTUAL}, verifyCertificateHash: [$hash]}}}}"),
    *SAID,
    r".*tls\.(mode|ca.*|serv.*|priv.*)",
)
async def clients_of_this_certificate_only(rig: Rig) -> None:
    assert (await _https(rig, "client.example")).body == "shop-1"
    assert (await _https(rig, "b.example")).status == 0


@CASES(
    gateway(f"{{{HTTPS}, tls: {{mode: SIMPLE, {FILES}, minProtocolVersion: TLSV1_3}}}}"),
    *SAID,
    r".*tls\.(mode|serv.*|priv.*)",
)
async def the_oldest_tls(rig: Rig) -> None:
    assert (await _https(rig)).version == "TLSv1.3"
    assert (await _https(rig, maximum_version=771)).status == 0


@CASES(
    gateway(
        f"{{{HTTPS}, tls: {{mode: SIMPLE, {FILES}, maxProtocolVersion: TLSV1_2,"
        " cipherSuites: [ECDHE-ECDSA-AES128-GCM-SHA256]}}"
    ),
    *SAID,
    r".*tls\.(mode|serv.*|priv.*)",
)
async def the_newest_tls_and_its_ciphers(rig: Rig) -> None:
    back = await _https(rig)
    assert (back.version, back.cipher) == ("TLSv1.2", "ECDHE-ECDSA-AES128-GCM-SHA256")
    assert (await _https(rig, maximum_version=771, ciphers="ECDHE-ECDSA-AES256-GCM-SHA384")).status == 0


@CASES(
    gateway(
        "{port: {number: $gwtls, name: tls, protocol: TLS}, hosts: [external.example], tls: {mode: PASSTHROUGH}}",
        """
---
kind: VirtualService
spec:
  hosts: [external.example]
  gateways: [case-0]
  tls: [{match: [{sniHosts: [external.example]}], route: [{destination: {host: web, port: {number: $tls}}}]}]
""",
    ),
    RULE,
    r".*(port\.name|selector)",
)
async def tls_passes_through(rig: Rig) -> None:
    back = await _https(rig, name="external.example")
    assert "external.example" in back.certificate
    assert rig.servers.seen[-1].tls.sni == "external.example"


TWO = """
---
kind: VirtualService
metadata: {name: one}
spec:
  hosts: ["*.example"]
  gateways: [case-0]
  http:
  - {match: [{uri: {prefix: /one}}], route: [{destination: {host: shop, port: {number: $http}}}]}
  - {directResponse: {status: 418}}
---
kind: VirtualService
metadata: {name: two}
spec:
  hosts: ["*.example"]
  gateways: [case-0]
  http: [{match: [{uri: {prefix: /two}}], route: [{destination: {host: web, port: {number: $http}}}]}]
"""


@CASES(gateway("{port: {number: $gw, name: http, protocol: HTTP}, hosts: ['*']}", TWO), r".*")
async def rules_of_several_objects_for_a_host_are_merged(rig: Rig) -> None:
    """What one has for all the rest comes after the rules of the other."""
    assert (await rig.ask("/one", port="gw", host="a.example")).body == "shop-1"
    assert (await rig.ask("/two", port="gw", host="b.a.example")).body.startswith("web")
    assert (await rig.ask("/three", port="gw", host="a.example")).status == 418
    assert (await rig.ask("/one", port="gw", host="a.other")).status == 404
