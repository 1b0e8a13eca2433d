"""What comes over istiod's HTTP sockets: reviews of objects under admission, and requests of the mesh page."""

from __future__ import annotations

import contextlib
import json

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from istiod import admission
from istiod.debug import guard
from istiod.meshpage.server import MeshPage
from tests.fuzz.of_wire import Knows
from tests.fuzz.target import Target, edited, joined, parts, run, text
from tests.meshpage import made as shown
from tests.webhook.reviews import CONFIG, pod, review
from webhook import answers, mutation
from webhook import review as reviews


def mutated(raw: bytes) -> None:
    answers.namespace_of(raw)
    answers.without_config(raw)
    answers.mutate(raw, CONFIG, {})
    mutation.with_path(CONFIG, "/inject/net/n/cluster/c")


def validated(raw: bytes) -> None:
    answers.validate(raw, admission.judge)


def admitted(raw: bytes) -> None:
    """A review with odd parts."""
    for each in edited([review(pod({"proxy.istio.io/config": "concurrency: 1"})), *map(review, _objects())], raw):
        body = json.dumps(each).encode()
        for answer in (mutated, validated):
            with contextlib.suppress(reviews.MalformedError):
                answer(body)


def path_of_webhook(raw: bytes) -> None:
    mutation.with_path(CONFIG, text(raw))


def page(raw: bytes) -> None:
    """A request line's target, asked from afar with the root namespace's token: no answer is a fault of ours."""
    target, remote = parts(raw, 2)
    path = "".join(c if c.isascii() and c.isprintable() and c not in ' "<>\\^`{|}' else "%C3" for c in target)

    @web.middleware
    async def elsewhere(request: web.Request, handler: guard.Handler) -> web.StreamResponse:
        return await handler(request.clone(remote=remote) if remote else request)

    async def ask() -> None:
        app = web.Application(middlewares=[elsewhere, guard.middleware(Knows, "demo")])
        MeshPage(shown.shop().sources()).extend(app)
        async with TestClient(TestServer(app)) as client:
            headers = {"Authorization": "Bearer good"}
            answer = await client.get(f"/debug/page/{path[:4_000].lstrip('/')}", headers=headers, allow_redirects=False)
            await answer.read()
            assert answer.status != 500, await answer.text()

    run(ask())


def _targets() -> tuple[Target, ...]:
    return (
        Target(
            name="admission-inject",
            call=mutated,
            refusals=(reviews.MalformedError,),
            seeds=tuple(
                json.dumps(review(pod(notes))).encode()
                for notes in (
                    {},
                    {"sidecar.istio.io/userVolume": '[{"name": "a"}]', "proxy.istio.io/config": "concurrency: 1"},
                    {
                        "traffic.sidecar.istio.io/includeOutboundIPRanges": "10.0.0.0/8",
                        "k8s.v1.cni.cncf.io/networks": "[]",
                    },
                    {"sidecar.istio.io/statsHistogramBuckets": '{"a": [1]}', "prometheus.io/scrape": "true"},
                    {"traffic.sidecar.istio.io/excludeInboundPorts": "80,81", "proxy.istio.io/overrides": "{}"},
                )
            ),
        ),
        Target(
            name="admission-validate",
            call=validated,
            refusals=(reviews.MalformedError,),
            seeds=tuple(json.dumps(review(each)).encode() for each in _objects()),
        ),
        Target(name="admission-parts", call=admitted, seeds=(b"", b"\0\5\1")),
        Target(name="webhook-path", call=path_of_webhook, seeds=(b"/inject/cluster/c/net/n", b"/inject/:ENV:a=b")),
        Target(
            name="pages",
            call=page,
            seeds=(
                joined("traffic?q=a&by=apps&namespace=shop&page=1", "10.0.0.7"),
                joined("proxies?q=web&state=nacked&page=0", "::1"),
                joined("proxies/web-1.shop/routes/80", ""),
                joined("proxies/web-1.shop/clusters", "::ffff:127.0.0.1"),
                joined(
                    "explain?from=web-1.shop&url=http%3A%2F%2Fapi%2Fin%3Fq%3D1&headers=a%3A+b&claims=%7B%7D",
                    "",
                ),
                joined("findings?q=x", "fe80::1%eth0"),
            ),
        ),
    )


def _objects() -> list[dict[str, object]]:
    meta = {"name": "x", "namespace": "demo"}
    rule = {
        "hosts": ["a"],
        "http": [{"match": [{"uri": {"regex": "/a.*"}}], "route": [{"destination": {"host": "b"}}]}],
    }
    patch = {
        "applyTo": "CLUSTER",
        "match": {"cluster": {"service": "a"}},
        "patch": {"operation": "MERGE", "value": {"connect_timeout": "1s"}},
    }
    networking, security = "networking.istio.io/v1", "security.istio.io/v1"
    return [
        {"apiVersion": networking, "kind": "VirtualService", "metadata": meta, "spec": rule},
        {
            "apiVersion": "networking.istio.io/v1alpha3",
            "kind": "EnvoyFilter",
            "metadata": meta,
            "spec": {"configPatches": [patch]},
        },
        {
            "apiVersion": security,
            "kind": "AuthorizationPolicy",
            "metadata": meta,
            "spec": {
                "rules": [
                    {
                        "from": [{"source": {"ipBlocks": ["10.0.0.0/8"]}}],
                        "when": [{"key": "request.auth.claims[a]", "values": ["b"]}],
                    }
                ]
            },
        },
        {
            "apiVersion": "telemetry.istio.io/v1",
            "kind": "Telemetry",
            "metadata": meta,
            "spec": {"accessLogging": [{"filter": {"expression": "response.code >= 400"}}]},
        },
    ]


TARGETS = _targets()
