"""MeshConfig: TLS of gateways and of the mesh, trust domains, and names of statistics."""

from __future__ import annotations

import ssl

from tests.behaviour.case import Cases
from tests.behaviour.cases_connections import tls as towards
from tests.behaviour.cases_gateway import FILES, HTTPS, gateway
from tests.behaviour.cases_mesh import mesh
from tests.behaviour.cases_sidecar import BASE, STRICT
from tests.behaviour.client import Reply, trusting
from tests.behaviour.rig import Rig
from tests.waiting import until

CASES = Cases()
OTHERS = r"(Gateway|VirtualService|Sidecar|PeerAuthentication).*"
SIMPLE = "\n---\n" + gateway(f"{{{HTTPS}, tls: {{mode: SIMPLE, {FILES}}}}}")
GUARDED = "\n---" + BASE + STRICT % ("STRICT", "")
ROUTED = SIMPLE.replace("gateways: [case-0]", "gateways: [case-1]")


async def _https(rig: Rig, ciphers: str = "", *, latest: ssl.TLSVersion | None = None, curve: str = "") -> Reply:
    context = _limited(trusting(rig.path("roots.pem")), ciphers, latest=latest)
    if curve:
        context.set_ecdh_curve(curve)
    return await rig.ask(port="gwtls", host="a.example", tls=context)


async def _mutual(rig: Rig, ciphers: str = "", *, latest: ssl.TLSVersion | None = None) -> Reply:
    chain, key = rig.mesh.of("cluster.local/ns/default/sa/client")
    context = _limited(trusting(str(rig.mesh.root), str(chain), str(key)), ciphers, latest=latest)
    context.set_alpn_protocols(["istio-http/1.1", "istio"])
    return await rig.ask(port="in", tls=context, host="server")


def _limited(context: ssl.SSLContext, ciphers: str, *, latest: ssl.TLSVersion | None) -> ssl.SSLContext:
    if latest:
        context.maximum_version = latest
    if ciphers:
        context.set_ciphers(ciphers)
    return context


OLD = ssl.TLSVersion.TLSv1_2
WEAKER, STRONGER = "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384"


@CASES(mesh("tlsDefaults: {minProtocolVersion: TLSV1_3}", ROUTED), OTHERS)
async def the_oldest_tls_of_gateways(rig: Rig) -> None:
    assert (await _https(rig)).body == "shop-1"
    assert (await _https(rig, latest=OLD)).status == 0


@CASES(mesh(f"tlsDefaults: {{cipherSuites: [{STRONGER}]}}", ROUTED), OTHERS)
async def ciphers_of_gateways(rig: Rig) -> None:
    assert (await _https(rig, latest=OLD)).cipher == STRONGER
    assert (await _https(rig, WEAKER, latest=OLD)).status == 0


@CASES(mesh("tlsDefaults: {ecdhCurves: [P-384]}", ROUTED), OTHERS)
async def curves_of_gateways(rig: Rig) -> None:
    assert (await _https(rig, curve="secp384r1")).body == "shop-1"
    assert (await _https(rig, curve="prime256v1")).status == 0


@CASES(mesh("meshMTLS: {minProtocolVersion: TLSV1_3}", GUARDED), OTHERS)
async def the_oldest_tls_of_the_mesh(rig: Rig) -> None:
    assert (await _mutual(rig)).body == "local"
    assert (await _mutual(rig, latest=OLD)).status == 0


@CASES(mesh(f"meshMTLS: {{cipherSuites: [{WEAKER}]}}", GUARDED), OTHERS)
async def ciphers_of_the_mesh(rig: Rig) -> None:
    assert (await _mutual(rig, latest=OLD)).cipher == WEAKER
    assert (await _mutual(rig, STRONGER, latest=OLD)).status == 0


@CASES(mesh("trustDomain: other.domain", GUARDED), OTHERS)
async def identities_of_another_domain_are_strangers(rig: Rig) -> None:
    assert (await _mutual(rig)).status == 0


@CASES(mesh("trustDomain: other.domain, trustDomainAliases: [cluster.local]", GUARDED), OTHERS, r".*trustDomain")
async def domains_with_another_name(rig: Rig) -> None:
    assert (await _mutual(rig)).body == "local"


@CASES(mesh("outboundClusterStatName: 'mine_%SERVICE_NAME%_%SERVICE_PORT_NAME%'"))
async def statistics_of_what_goes_out(rig: Rig) -> None:
    await rig.ask(host="shop")
    assert await rig.stat("cluster.mine_shop_http.*upstream_rq_total") > 0


SERVICE = """
---
kind: Service
metadata: {name: server}
spec: {clusterIP: 10.0.0.9, selector: {app: server}, ports: [{name: http, port: $in, targetPort: $in}]}
"""


@CASES(mesh("inboundClusterStatName: 'mine_%SERVICE_NAME%'", SERVICE))
async def statistics_of_what_comes_in(rig: Rig) -> None:
    async def counted() -> bool:
        await rig.ask(port="in")
        return await rig.stat("cluster.mine_server.*upstream_rq_total", "server") > 0

    await until(counted, "a request is counted by this name", 4)


UNVERIFIED = mesh("verifyCertificateAtClient: false", "\n---\n" + towards("mode: SIMPLE%s, sni: name.example"))
OUTSIDE = r"(DestinationRule|ServiceEntry).*"


@CASES(UNVERIFIED % "", OUTSIDE)
async def servers_are_not_verified_by_the_systems_roots(rig: Rig) -> None:
    assert (await rig.ask(host="external.example")).status == 200


@CASES(UNVERIFIED % ", caCertificates: $certs/strangers.pem", OUTSIDE, r"MeshConfig.*")
async def servers_are_verified_by_roots_that_a_rule_names(rig: Rig) -> None:
    assert (await rig.ask(host="external.example")).status == 503
