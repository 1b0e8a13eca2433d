"""The whole local mesh: control plane, injected pods, identities, gateway; one short way through all of it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import io
import json
import pathlib
import sys

import aiohttp
import pytest

from istioctl import __main__ as istioctl
from node import Mesh, Options
from tests.waiting import until
from wire import names

pytestmark = [pytest.mark.root, pytest.mark.envoy]

APP = str(pathlib.Path(__file__).with_name("app.py"))
SECONDS = 60.0
PATCHES = """\
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio-injection: enabled}}
---
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: patches, namespace: shop}
spec:
  workloadSelector: {labels: {app: web}}
  configPatches:
  - applyTo: BOOTSTRAP
    patch: {operation: MERGE, value: {stats_flush_interval: 7s}}
  - applyTo: HTTP_FILTER
    match:
      context: SIDECAR_INBOUND
      listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager}}}
    patch:
      operation: INSERT_BEFORE
      value:
        name: found
        config_discovery:
          config_source: {ads: {}, resource_api_version: V3}
          type_urls: [&type type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation]
  - applyTo: EXTENSION_CONFIG
    patch:
      operation: ADD
      value:
        name: found
        typed_config: {"@type": *type, mutations: {}}
"""
STORY = """\
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
metadata:
  name: web
  namespace: shop
  labels: {app: web}
  annotations: {proxy.istio.io/config: '{"proxyMetadata": {"BOOTSTRAP_XDS_AGENT": "true"}}'}
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


async def told(http: aiohttp.ClientSession, code: str, count: int = 1) -> bool:
    """Whether istiod has so many findings of a code."""
    try:
        async with http.get("diagnosticsz") as answer:
            return [each["code"] for each in await answer.json()].count(code) == count
    except aiohttp.ClientError:  # istiod is just starting
        return False


async def patched(mesh: Mesh, folder: pathlib.Path) -> None:
    """What EnvoyFilters bring that no listener, route or cluster shows."""
    dump = folder / "dump.json"
    code, out, err = await mesh.exec("web", [sys.executable, APP, "get", "http://127.0.0.1:15000/config_dump"], "app")
    assert code == 0, err[-300:]
    dump.write_text(out)
    said = {}
    for kind in ("bootstrap", "ecds"):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            assert istioctl.main(["proxy-config", kind, "-f", str(dump), "-o", "json"]) == 0
        said[kind] = json.loads(printed.getvalue())
    assert said["bootstrap"]["bootstrap"]["statsFlushInterval"] == "7s"
    assert [each["name"] for each in said["ecds"]] == ["found"]


async def test_injected_pods_talk_over_mtls_and_strangers_do_not(options: Options, tmp_path: pathlib.Path) -> None:
    whole = dataclasses.replace(options, control_plane=True)
    async with Mesh(options=whole) as mesh:
        await mesh.apply(PATCHES)
        debug = (
            f"http://127.0.0.1:{await mesh.forward('istiod', names.DEBUG_PORT, namespace=names.ROOT_NAMESPACE)}/debug/"
        )
        async with aiohttp.ClientSession(debug) as http:
            await until(lambda: told(http, "M0145"), "the patches of the bootstrap are known, and nobody asks")
            await mesh.apply(STORY)
            await mesh.ready(SECONDS)
            await patched(mesh, tmp_path)
            await until(lambda: told(http, "M0145", count=0), "somebody asks for them")
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
