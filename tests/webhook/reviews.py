"""AdmissionReviews as an API server sends them, and a running webhook."""

from __future__ import annotations

import base64
import contextlib
import copy
import datetime as dt
import json
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp

from crds.diagnostic import Diagnostic
from istiod.ca import authority
from istiod.grpcserver import tls
from webhook import server
from webhook.settings import InjectionConfig
from webhook.worker import Worker

SLOW = 4.0
CONFIG = InjectionConfig(image="registry.local/istio/proxyv2:1")


def pod(annotations: Mapping[str, str] | None = None, **labels: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": "web-",
            "labels": {"app": "web", **labels},
            "annotations": dict(annotations or {}),
        },
        "spec": {"containers": [{"name": "app", "image": "app:1", "ports": [{"containerPort": 80}]}]},
    }


def review(
    item: Mapping[str, Any] | None, *, version: str = "v1", operation: str = "CREATE", **more: Any
) -> dict[str, Any]:
    shown = item or more.get("oldObject") or {}
    group, _, of = str(shown.get("apiVersion", "v1")).rpartition("/")
    return {
        "apiVersion": f"admission.k8s.io/{version}",
        "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": group, "version": of, "kind": shown.get("kind", "Pod")},
            "operation": operation,
            "namespace": "demo",
            "object": item,
            **more,
        },
    }


def apply(document: Any, operations: list[Any]) -> Any:
    """RFC 6902: add, remove and replace."""
    root = {"": copy.deepcopy(document)}
    for operation in operations:
        parts = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")]
        target: Any = root
        for part in parts[:-1]:
            target = target[int(part)] if isinstance(target, list) else target[part]
        last = parts[-1]
        if isinstance(target, list):
            if operation["op"] == "add":
                target.insert(len(target) if last == "-" else int(last), operation["value"])
            else:
                target[int(last)] = operation["value"]
        elif operation["op"] == "remove":
            del target[last]
        else:
            target[last] = operation["value"]
    return root[""]


def patched(given: Mapping[str, Any], answer: Mapping[str, Any]) -> Any:
    """The object with the patch of an answer."""
    return apply(given, json.loads(base64.b64decode(answer["response"]["patch"])))


def slow(document: Mapping[str, object]) -> tuple[Diagnostic, ...]:
    """A check of objects that takes seconds where they are large; the worker of a webhook calls it."""
    if len(json.dumps(document)) > 100_000:
        time.sleep(SLOW)
    return ()


def certificates() -> tuple[authority.Authority, authority.Material]:
    now = dt.datetime.now(dt.UTC)
    ca = authority.Authority(authority.self_signed("cluster.local", now))
    return ca, ca.serving(("localhost",), now)


@contextlib.asynccontextmanager
async def running(
    sources: server.Sources | None = None, body_seconds: float = server.BODY_SECONDS
) -> AsyncIterator[tuple[aiohttp.ClientSession, str, ssl.SSLContext]]:
    """(client, URL, the server's context) of a webhook that serves with TLS."""
    ca, made = certificates()
    context = tls.server(made.key, made.certificate + made.chain, "http/1.1")
    sources = sources or server.Sources(ready=lambda: True, config=lambda: CONFIG)
    open_server = await server.serve("127.0.0.1:0", context, sources, Worker(seconds=60), body_seconds)
    trust = ssl.create_default_context(cadata=ca.roots)
    connector = aiohttp.TCPConnector(ssl=trust)
    try:
        async with aiohttp.ClientSession(connector=connector) as client:
            yield client, f"https://localhost:{open_server.port}", context
    finally:
        await open_server.close()
