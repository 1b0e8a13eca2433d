"""The webhooks over HTTPS, as an API server, and as somebody who is none, meets them."""

from __future__ import annotations

import asyncio
import io
import json
import ssl
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from istiod.grpcserver import tls
from tests.waiting import until
from tests.webhook.reviews import CONFIG, SLOW, certificates, patched, pod, review, running, slow
from webhook import server
from webhook.settings import InjectionConfig
from webhook.worker import BusyError, Worker

RULE = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "VirtualService",
    "metadata": {"name": "web", "namespace": "demo"},
    "spec": {"hosts": ["web"], "http": [{"route": [{"destination": {"host": "web"}}]}]},
}
POLICY = {
    "apiVersion": "security.istio.io/v1",
    "kind": "AuthorizationPolicy",
    "metadata": {"name": "deny", "namespace": "demo"},
    "spec": {"action": "DENY"},
}


async def ask(client: aiohttp.ClientSession, url: str, body: Any) -> dict[str, Any]:
    async with client.post(f"{url}?timeout=10s", json=body) as answer:
        assert answer.status == 200, await answer.text()
        found: dict[str, Any] = await answer.json()
        return found


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
async def test_a_pod_gets_its_sidecar_by_a_patch(version: str) -> None:
    async with running() as (client, url, _):
        answer = await ask(client, f"{url}/inject", review(pod(), version=version))
    assert answer["apiVersion"] == f"admission.k8s.io/{version}"
    assert answer["response"]["uid"] == "705ab4f5-6393-11e8-b7cc-42010a800002"
    assert answer["response"]["patchType"] == "JSONPatch"
    made = patched(pod(), answer)
    assert [each["name"] for each in made["spec"]["containers"]] == ["app", "istio-proxy"]
    assert made["spec"]["containers"][1]["image"] == CONFIG.image


async def test_the_path_says_cluster_and_network() -> None:
    async with running() as (client, url, _):
        answer = await ask(client, f"{url}/inject/cluster/east/net/blue--slash--1/my_var/x/-/y/odd", review(pod()))
    made = patched(pod(), answer)
    env = {each["name"]: each.get("value") for each in made["spec"]["containers"][1]["env"]}
    assert env["ISTIO_META_CLUSTER_ID"] == "east"
    assert env["ISTIO_META_NETWORK"] == "blue/1"
    assert env["MY_VAR"] == "x"
    assert made["metadata"]["labels"]["topology.istio.io/network"] == "blue/1"


async def test_a_pod_that_cannot_be_injected_is_refused_with_the_annotation_and_the_reason() -> None:
    async with running() as (client, url, _):
        bad = pod({"sidecar.istio.io/proxyCPU": "much"})
        answer = await ask(client, f"{url}/inject", review(bad))
    assert answer["response"]["allowed"] is False
    assert answer["response"]["status"]["code"] == 400
    assert answer["response"]["status"]["message"] == (
        "the pod cannot be injected: metadata.annotations[sidecar.istio.io/proxyCPU]: "
        "'much' is not a quantity such as 100m [M0005]"
    )


async def test_what_is_no_new_pod_passes_untouched() -> None:
    async with running() as (client, url, _):
        for asked in (
            review(pod(), operation="UPDATE"),
            review(RULE),
            review(pod(), namespace="kube-system"),
            review({**pod(), "spec": {"hostNetwork": True}}),
        ):
            response = (await ask(client, f"{url}/inject", asked))["response"]
            assert response == {"uid": response["uid"], "allowed": True}


async def test_without_settings_a_pod_is_refused_rather_than_started_outside_of_the_mesh() -> None:
    sources = server.Sources(ready=lambda: False, config=lambda: None)
    large = pod({"note": "x" * 200_000})
    async with running(sources) as (client, url, _):
        for each in (pod(), large):
            answer = await ask(client, f"{url}/inject", review(each))
            assert answer["response"]["allowed"] is False
            assert "ConfigMap" in answer["response"]["status"]["message"]
        async with client.get(f"{url}/ready") as ready:
            assert ready.status == 503


async def test_settings_are_those_of_the_moment() -> None:
    now = {"config": CONFIG}
    async with running(server.Sources(ready=lambda: True, config=lambda: now["config"])) as (client, url, _):
        for image in ("a/proxyv2:1", "a/proxyv2:2"):
            now["config"] = InjectionConfig(image=image)
            made = patched(pod(), await ask(client, f"{url}/inject", review(pod())))
            assert made["spec"]["containers"][1]["image"] == image


async def test_an_object_is_stored_or_refused_with_field_and_reason() -> None:
    wrong = {**RULE, "spec": {"hosts": ["web"], "http": [{"route": [{"destination": {"host": 1}}]}]}}
    async with running() as (client, url, _):
        assert (await ask(client, f"{url}/validate", review(RULE)))["response"]["allowed"] is True
        response = (await ask(client, f"{url}/validate", review(wrong)))["response"]
        assert response["allowed"] is False
        assert "spec.http[0].route[0].destination.host" in response["status"]["message"]
        response = (await ask(client, f"{url}/validate", review(POLICY)))["response"]
        assert response["allowed"] is False
        assert "DENY without rules never does anything" in response["status"]["message"]


async def test_a_large_object_is_judged_beside_the_loop_and_a_large_pod_injected() -> None:
    rules = [
        {"match": [{"uri": {"prefix": f"/{i}"}}], "route": [{"destination": {"host": "web"}}]} for i in range(3000)
    ]
    large = {**RULE, "spec": {"hosts": ["web"], "http": rules}}
    wrong = {**RULE, "spec": {"hosts": ["web"], "http": [*rules, {"route": [{"destination": {"host": 1}}]}]}}
    sources = server.Sources(ready=lambda: True, config=lambda: InjectionConfig(openshift=True))
    async with running(sources) as (client, url, _):
        lags = asyncio.create_task(longest_lag())
        assert (await ask(client, f"{url}/validate", review(large)))["response"]["allowed"] is True
        assert (
            "spec.http[3000]" in (await ask(client, f"{url}/validate", review(wrong)))["response"]["status"]["message"]
        )
        assert "patch" in (await ask(client, f"{url}/inject", review(pod({"note": "x" * 200_000}))))["response"]
        lags.cancel()
        assert await lags < 0.5  # the loop itself; a shared machine adds to it


async def test_while_one_object_takes_seconds_all_others_are_answered() -> None:
    """FT42: an object that is slow to judge has a process of its own."""
    large = {**RULE, "metadata": {**RULE["metadata"], "annotations": {"note": "x" * 200_000}}}
    sources = server.Sources(ready=lambda: True, config=lambda: CONFIG, findings=slow)
    async with running(sources) as (client, url, _):
        held = asyncio.create_task(ask(client, f"{url}/validate", review(large)))
        began = time.monotonic()
        asked = [ask(client, f"{url}/{path}", review(item)) for path, item in (("inject", pod()), ("validate", RULE))]
        answers = await asyncio.gather(*asked)
        more = [ask(client, f"{url}/inject", review(pod())) for _ in range(98)]
        answers += await asyncio.gather(*more)
        assert not held.done()
        assert all(each["response"]["allowed"] for each in (*answers, await held))
        assert time.monotonic() - began >= SLOW


async def longest_lag() -> float:
    longest = 0.0
    try:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.005)
            longest = max(longest, time.perf_counter() - before - 0.005)
    except asyncio.CancelledError:
        return longest


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield b"[" * 65536
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"x" * (server.LARGEST_BODY + 1), "application/json", 413),
        (b"{}", "text/plain", 400),
        (b"", "application/json", 400),
        (b"no json", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b"[" * 200_000, "application/json", 400),
        (b'{"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v2"}', "application/json", 400),
        (b'{"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": 7}', "application/json", 400),
        (b"[1, 2]", "application/json", 400),
    ],
)
@pytest.mark.parametrize("path", ["inject", "validate"])
async def test_what_is_no_review_gets_a_status_and_nothing_of_ours(
    body: bytes, kind: str, status: int, path: str
) -> None:
    async with running() as (client, url, _):
        async with client.post(f"{url}/{path}", data=io.BytesIO(body), headers={"Content-Type": kind}) as answer:
            said = await answer.text()
            assert answer.status == status
            assert answer.headers["Server"] == "webhook"
            assert len(said) < 120
            assert "Traceback" not in said
            assert "Error" not in said
        assert (await ask(client, f"{url}/inject", review(pod())))["response"]["allowed"] is True


async def test_a_body_without_end_is_cut_off() -> None:
    async with running() as (client, url, _):
        try:
            async with client.post(
                f"{url}/validate", data=endless(), headers={"Content-Type": "application/json"}
            ) as a:
                assert a.status == 413
        except aiohttp.ClientError:
            pass  # the connection was closed while the client was still writing
        assert (await ask(client, f"{url}/inject", review(pod())))["response"]["allowed"] is True


async def test_a_body_that_drips_is_given_up() -> None:
    async def drip() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" "
            await asyncio.sleep(0.05)

    kind = {"Content-Type": "application/json"}
    async with (
        running(body_seconds=0.2) as (client, url, _),
        client.post(f"{url}/inject", data=drip(), headers=kind) as answer,
    ):
        assert answer.status == 408


@pytest.mark.parametrize("size", [0, 200_000])
async def test_an_object_that_nests_too_deep_is_refused_and_hurts_no_other(size: int) -> None:
    deep: dict[str, Any] = {}
    for _ in range(600):
        deep = {"a": deep}
    note = {"note": "x" * size}
    given = pod(note)
    given["spec"]["deep"] = deep
    rule: dict[str, Any] = json.loads(json.dumps(RULE))
    rule["metadata"]["annotations"] = note
    rule["spec"]["deep"] = deep
    async with running() as (client, url, _):
        for path, item in (("inject", given), ("validate", rule)):
            async with client.post(f"{url}/{path}", json=review(item)) as answer:
                assert (answer.status, await answer.text()) == (400, "the body is nested too deep\n")
        assert (await ask(client, f"{url}/inject", review(pod())))["response"]["allowed"] is True


async def raw(url: str, context: ssl.SSLContext, sent: bytes) -> bytes:
    """What the server answers to these bytes, and the end of them."""
    reader, writer = await asyncio.open_connection("localhost", int(url.rpartition(":")[2]), ssl=context)
    writer.write(sent)
    found = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return found


@pytest.mark.parametrize("sent", [b"SSH-2.0-me\r\n\r\n", b"GET / HTTP/1.1\r\nme: " + b"me" * 8000 + b"\r\n\r\n"])
async def test_what_is_no_http_gets_a_bare_answer(sent: bytes, caplog: pytest.LogCaptureFixture) -> None:
    trust = ssl.create_default_context()
    trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    async with running() as (_, url, _):
        head, _, body = (await raw(url, trust, sent)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 400 Bad Request\r\n")
    assert b"\r\nServer: webhook\r\n" in head
    assert body == b""
    assert not caplog.records


async def test_a_connection_that_ends_in_a_body_is_no_fault_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    trust = ssl.create_default_context()
    trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    head = b"POST /inject HTTP/1.1\r\nHost: me\r\nContent-Type: application/json\r\n"
    async with running() as (client, url, _):
        answer = await raw(url, trust, head + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\nno size\r\n")
        assert answer.startswith(b"HTTP/1.0 400 Bad Request\r\n")
        _, writer = await asyncio.open_connection("localhost", int(url.rpartition(":")[2]), ssl=trust)
        writer.write(head + b"Content-Length: 100\r\n\r\n{")
        await writer.drain()
        writer.transport.abort()
        assert (await ask(client, f"{url}/inject", review(pod())))["response"]["allowed"] is True
    assert not caplog.records


async def test_strangers_learn_nothing_of_what_serves_here() -> None:
    async with running() as (client, url, _):
        for method, path, status in (("GET", "/inject", 405), ("GET", "/", 404), ("POST", "/debug", 404)):
            async with client.request(method, f"{url}{path}") as answer:
                assert answer.status == status
                assert "aiohttp" not in answer.headers["Server"]
        async with client.get(f"{url}/ready") as answer:
            assert (answer.status, await answer.text()) == (200, "ok")


async def test_a_fault_of_ours_is_an_error_without_its_text() -> None:
    def broken() -> InjectionConfig:
        raise KeyError("secret")

    sources = server.Sources(ready=lambda: True, config=broken)
    async with running(sources) as (client, url, _), client.post(f"{url}/inject", json=review(pod())) as answer:
        assert answer.status == 500
        assert "secret" not in await answer.text()


async def test_a_new_certificate_is_shown_without_losing_a_connection_and_a_broken_one_never() -> None:
    async with running() as (client, url, context):
        await ask(client, f"{url}/inject", review(pod()))
        other, made = certificates()
        tls.load(context, made.key, made.certificate + made.chain)
        await ask(client, f"{url}/inject", review(pod()))  # on the connection that is open
        trust = ssl.create_default_context(cadata=other.roots)
        for key in (b"no key", made.key):
            with pytest.raises(ssl.SSLError):
                tls.load(context, key, certificates()[1].certificate)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust)) as later:
            await ask(later, f"{url}/inject", review(pod()))


async def test_an_address_that_is_taken_is_said() -> None:
    _, made = certificates()
    context = tls.server(made.key, made.certificate)
    sources = server.Sources(ready=lambda: True, config=lambda: CONFIG)
    first = await server.serve("127.0.0.1:0", context, sources)
    try:
        with pytest.raises(OSError, match="address already in use"):
            await server.serve(f"127.0.0.1:{first.port}", context, sources)
    finally:
        await first.close()


async def test_the_worker_gives_up_what_takes_too_long_and_starts_again() -> None:
    worker = Worker(seconds=3)
    try:
        with pytest.raises(BusyError):
            await worker.run(time.sleep, 60)
        assert await worker.run(json.loads, "[1]") == [1]
        with pytest.raises(ValueError, match="Expecting value"):
            await worker.run(json.loads, "")
    finally:
        await worker.close()


async def test_the_worker_ends_when_nothing_is_to_be_done_and_takes_only_so_much() -> None:
    worker = Worker(seconds=30, idle_seconds=0.01)
    try:
        calls = [asyncio.create_task(worker.run(json.loads, "1")) for _ in range(40)]
        done = await asyncio.gather(*calls, return_exceptions=True)
        assert done.count(1) == 16
        assert sum(isinstance(each, BusyError) for each in done) == 24
        await until(lambda: not worker.runs, "an end")
    finally:
        await worker.close()
