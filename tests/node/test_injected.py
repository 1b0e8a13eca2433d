"""The whole local mesh: control plane, injected pods, identities, gateway; one short way through all of it."""

from __future__ import annotations

import asyncio
import dataclasses
import pathlib
import sys

import pytest

from node import Mesh, Options

pytestmark = [pytest.mark.root, pytest.mark.envoy]

APP = str(pathlib.Path(__file__).with_name("app.py"))
SECONDS = 60.0
STORY = """\
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio-injection: enabled}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec:
  containers:
    - name: app
      image: test
      args: [serve, web, "8080"]
      readinessProbe: {httpGet: {path: /ready, port: 8080}}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: shop, labels: {app: client}}
spec: {containers: [{name: app, image: test, args: [serve, client, "8080"]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: stranger, namespace: plain}
spec: {containers: [{name: app, image: test, args: [serve, stranger, "8080"]}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: front, namespace: shop}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: front, namespace: shop}
spec:
  hosts: ["*"]
  gateways: [front]
  http: [{route: [{destination: {host: web}}]}]
"""


async def test_injected_pods_talk_over_mtls_and_strangers_do_not(options: Options) -> None:
    whole = dataclasses.replace(options, control_plane=True)
    async with Mesh(options=whole) as mesh:
        await mesh.apply(STORY)
        await mesh.ready(SECONDS)
        url = "http://web.shop/"

        async def get(pod: str) -> tuple[int, str, str]:
            return await mesh.exec(pod, [sys.executable, APP, "get", url], "app")

        assert (await get("client"))[1].startswith("web web from 127.0.0.6"), await get("client")
        assert (await get("stranger"))[0] == 1
        port = await mesh.forward_gateway()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, APP, "get", f"http://127.0.0.1:{port}/"), stdout=asyncio.subprocess.PIPE
        )
        assert (await process.communicate())[0].startswith(b"web web from 127.0.0.6")
        assert "rules programmed" in mesh.logs("client", "istio-init")
