"""Ways out by an egress gateway (features row W2): mesh mTLS up to it, and from it TLS to the server outside."""

from __future__ import annotations

from tests.behaviour.case import Cases
from tests.behaviour.cases_connections import OUTSIDE
from tests.behaviour.cases_credentials import SECRETS
from tests.behaviour.rig import Rig
from tests.behaviour.servers import Handshake

CASES = Cases()
WAY = (
    """
kind: Gateway
metadata: {name: egress}
spec:
  selector: {app: gw}
  servers:
  - {port: {number: $gwtls2, name: https, protocol: HTTPS}, hosts: [external.example], tls: {mode: ISTIO_MUTUAL}}
---
kind: Service
metadata: {name: egress}
spec: {clusterIP: 10.0.0.8, selector: {app: gw}, ports: [{name: https, port: $gwtls2, targetPort: $gwtls}]}
---
kind: EndpointSlice
metadata: {name: egress-1, labels: {kubernetes.io/service-name: egress}}
addressType: IPv4
ports: [{name: https, port: $gwtls}]
endpoints:
- {addresses: [$ip11], conditions: {ready: true}, targetRef: {kind: Pod, name: gw-1, namespace: default}}
---
kind: DestinationRule
metadata: {name: egress}
spec:
  host: egress.default.svc.cluster.local
  subsets: [{name: out, trafficPolicy: {tls: {mode: ISTIO_MUTUAL, sni: external.example}}}]
---
kind: VirtualService
spec:
  hosts: [external.example]
  gateways: [mesh, egress]
  http:
  - match: [{gateways: [mesh]}]
    route: [{destination: {host: egress.default.svc.cluster.local, subset: out, port: {number: $gwtls2}}}]
  - match: [{gateways: [egress], port: $gwtls2}]
    route: [{destination: {host: external.example, port: {number: $http}}}]
---
kind: DestinationRule
metadata: {name: outside}
spec: {host: external.example, trafficPolicy: {tls: {%s}}}
"""
    + OUTSIDE
)
BESIDE = r"(Gateway|VirtualService|ServiceEntry|DestinationRule).*"
CALLER = "spiffe://cluster.local/ns/default/sa/client"


async def _left(rig: Rig) -> Handshake:
    """What the server outside saw of a call that came to the gateway by mesh mTLS."""
    back = await rig.ask(host="external.example")
    assert (back.status, back.body) == (200, "shop-1")
    (seen,) = rig.servers.seen
    assert CALLER in seen.headers["x-forwarded-client-cert"]
    assert seen.tls is not None
    return seen.tls


@CASES(WAY % "mode: SIMPLE, caCertificates: $certs/roots.pem, sni: external.example", BESIDE)
async def calls_leave_by_the_egress_gateway(rig: Rig) -> None:
    seen = await _left(rig)
    assert (seen.sni, seen.peer) == ("external.example", ())


@CASES(WAY % "mode: MUTUAL, credentialName: client, sni: external.example" + SECRETS, BESIDE)
async def the_egress_gateway_has_a_certificate_of_a_secret(rig: Rig) -> None:
    assert "client.example" in (await _left(rig)).peer
