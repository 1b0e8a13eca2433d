"""Hosts that no name server knows, reached by name: the agent's DNS proxy, allocated addresses and WorkloadEntries."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
import time

import pytest

from node import Mesh, Options, network
from tests.node.conftest import APP

pytestmark = [pytest.mark.root, pytest.mark.envoy]

SECONDS = 60.0
NAME_SERVER = "10.96.0.10"
PODS = """\
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio-injection: enabled}}
---
apiVersion: v1
kind: Pod
metadata:
  name: client
  namespace: shop
  labels: {app: client}
  annotations:
    proxy.istio.io/config: |
      proxyMetadata: {ISTIO_META_DNS_CAPTURE: "true"}
spec: {containers: [{name: app, image: test, args: [serve, client, "8080"]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: one, namespace: plain}
spec: {containers: [{name: app, image: test, args: [serve, one, "8080"]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: two, namespace: plain}
spec: {containers: [{name: app, image: test, args: [serve, two, "8080"]}]}
---
apiVersion: v1
kind: Service
metadata: {name: client, namespace: shop}
spec: {selector: {app: client}, ports: [{name: http, port: 80, targetPort: 8080}]}
"""
ENTRY = """\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}, namespace: shop}}
spec:
  hosts: [{name}.example]
  ports: [{{name: tcp, number: 9000, protocol: TCP, targetPort: 8080}}]
  resolution: STATIC
  location: MESH_INTERNAL
  workloadSelector: {{labels: {{app: {name}}}}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: {name}, namespace: shop}}
spec: {{address: {address}, labels: {{app: {name}}}}}
---
"""
WILD = """\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: wild, namespace: shop}
spec:
  hosts: ["*.wild.example"]
  addresses: [192.0.2.9]
  ports: [{name: http, number: 80, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 192.0.2.1}]
"""
ASK = f"""\
import sys, dns.message, dns.query, dns.rcode
query = dns.message.make_query(sys.argv[1], sys.argv[2])
found = getattr(dns.query, sys.argv[3])(query, "{NAME_SERVER}", timeout=10)
print(dns.rcode.to_text(found.rcode()), *(item.to_text() for rrset in found.answer for item in rrset))
"""


async def ask(mesh: Mesh, name: str, kind: str = "A", protocol: str = "udp") -> str:
    """What the pod's name server says of a name, asked as an app does: the result and its records."""
    code, out, err = await mesh.exec("client", [sys.executable, "-c", ASK, name, kind, protocol], "app")
    assert code == 0, err[-300:]
    return out.strip()


async def until(mesh: Mesh, name: str, expected: str) -> None:
    """Wait until a name is answered so."""
    deadline = time.monotonic() + SECONDS
    while not (found := await ask(mesh, name)).startswith(expected):
        assert time.monotonic() < deadline, f"{name}: {found}"
        await asyncio.sleep(0.2)


async def test_an_app_finds_hosts_of_the_mesh_by_name_and_all_others_as_before(options: Options) -> None:
    whole = dataclasses.replace(options, control_plane=True)
    async with Mesh(options=whole) as mesh:
        await mesh.apply(PODS)
        await mesh.ready(SECONDS)
        entries = (ENTRY.format(name=name, address=mesh.pod(name).state.address) for name in ("one", "two"))
        await mesh.apply("".join(entries) + WILD)
        for name in ("one", "two"):
            await until(mesh, f"{name}.example", "NOERROR 240.240.")
            url = f"http://{name}.example:9000/"
            code, out, err = await mesh.exec("client", [sys.executable, APP, "get", url], "app")
            assert (code, out.startswith(f"{name} {name} from ")) == (0, True), (out, err[-300:])
        addresses = {await ask(mesh, "one.example"), await ask(mesh, "two.example")}
        assert len(addresses) == 2
        assert await ask(mesh, "one.example", protocol="tcp") in addresses
        assert await ask(mesh, "one.example", "AAAA") == "NOERROR"
        assert await ask(mesh, "deep.in.wild.example") == "NOERROR 192.0.2.9"
        searched = await ask(mesh, "one.example.shop.svc.cluster.local")
        assert searched.startswith("NOERROR one.example. 240.240.")
        own = mesh.service_address("client", "shop")
        assert {await ask(mesh, name) for name in ("client", "client.shop", "client.shop.svc.cluster.local")} == {
            f"NOERROR {own}"
        }
        assert await ask(mesh, "nobody.example") == "NXDOMAIN", "the name server's word"
        assert await ask(mesh, "nobody.example", protocol="tcp") == "NXDOMAIN"
        pid = str(mesh.pod("client").containers["istio-proxy"].pid)
        rule = ("OUTPUT", "-p", "udp", "--dport", "53", "-m", "owner", "--uid-owner", "1337", "-j", "REJECT")
        await network.command("nsenter", "-t", pid, "-n", "iptables", "-I", *rule)
        started = time.monotonic()
        assert await ask(mesh, "nobody.example") == "SERVFAIL"
        assert time.monotonic() - started < 3
        assert await ask(mesh, "one.example") in addresses
