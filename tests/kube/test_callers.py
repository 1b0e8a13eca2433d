"""Who may call a whole istiod whose tokens a real API server judges (SEC14), also while that is slow (fault FT40)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2

from e2e.harness.controlplane import Cluster
from istiod.ca import server
from istiod.config.kubernetes import ApiError
from istiod.kube.client import KubernetesClient
from istiod.kube.token_review import DEADLINE, BoundPod, bound_pod
from protos import ca_pb2
from tests.ca.test_server import request
from tests.kube.faults import FaultProxy
from tests.kube.following import becomes
from tests.kube.test_discovery import Istiod, discovery, free_port
from wire import names

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(120, func_only=True)]
GONE = 10.0
"""Seconds after which a pod that was deleted proves nobody."""
Claims = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Callers:
    """What calls a running istiod, over TLS."""

    channel: grpc.aio.Channel
    istiod: Istiod

    async def sign(self, token: str) -> str:
        """The code of an answer to a CSR; "OK" for a certificate."""
        create = self.channel.unary_unary(
            f"/{server.SERVICE}/{server.METHOD}",
            request_serializer=ca_pb2.IstioCertificateRequest.SerializeToString,
            response_deserializer=ca_pb2.IstioCertificateResponse.FromString,
        )
        try:
            await create(request(3600), metadata=_bearer(token), timeout=20)
        except grpc.aio.AioRpcError as error:
            return error.code().name
        return "OK"

    async def stream(self, token: str, pod: str, namespace: str) -> Any:
        """A stream of xDS that has its first response."""
        asked = discovery_pb2.DeltaDiscoveryRequest(type_url=names.CLUSTER)
        asked.node.id = f"sidecar~10.1.0.7~{pod}.{namespace}~{namespace}.svc.cluster.local"
        stub = ads_pb2_grpc.AggregatedDiscoveryServiceStub(self.channel)
        call: Any = stub.DeltaAggregatedResources(metadata=_bearer(token))
        await call.write(asked)
        await _next(call)
        return call


def _bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),) if token else ()


async def _next(call: Any) -> list[str]:
    """Names in the next response, which is acknowledged."""
    answer = await asyncio.wait_for(call.read(), 30)
    assert answer is not grpc.aio.EOF, await call.code()
    await call.write(discovery_pb2.DeltaDiscoveryRequest(type_url=names.CLUSTER, response_nonce=answer.nonce))
    return [each.name for each in answer.resources]


async def root_of(client: KubernetesClient, namespace: str) -> dict[str, Any]:
    """The ConfigMap with the root, which the leader writes once it leads."""
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(ApiError):
                found: dict[str, Any] = await client.request(
                    "get", f"/api/v1/namespaces/{namespace}/configmaps/istio-ca-root-cert"
                )
                return found
            await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def calling(kubeconfig: str, client: KubernetesClient, namespace: str, log: Path) -> AsyncIterator[Callers]:
    secure = f"127.0.0.1:{free_port()}"
    async with discovery(kubeconfig, namespace, log, secure=secure) as istiod:
        await becomes(istiod.ready, lambda said: said[0] == 200, 60)
        found = await root_of(client, namespace)
        credentials = grpc.ssl_channel_credentials(found["data"]["root-cert.pem"].encode())
        options = (("grpc.ssl_target_name_override", f"istiod.{namespace}.svc"), ("grpc.enable_http_proxy", 0))
        async with grpc.aio.secure_channel(secure, credentials, options) as channel:
            yield Callers(channel=channel, istiod=istiod)


class Accounts:
    """Service accounts and pods of a namespace, and their tokens."""

    def __init__(self, client: KubernetesClient, namespace: str) -> None:
        self._client = client
        self.core = f"/api/v1/namespaces/{namespace}"
        self.namespace = namespace

    async def make(self, account: str) -> dict[str, Any]:
        """A pod of a new account, at an address."""
        await self._client.request("post", f"{self.core}/serviceaccounts", {"metadata": {"name": account}})
        spec = {
            "containers": [{"name": "app", "image": "app"}],
            "schedulerName": "none",
            "serviceAccountName": account,
        }
        made: dict[str, Any] = await self._client.request(
            "post", f"{self.core}/pods", {"metadata": {"name": account}, "spec": spec}
        )
        return made

    async def token(self, pod: Mapping[str, Any], audience: str = names.TOKEN_AUDIENCE) -> str:
        """As the kubelet asks for it."""
        bound = {"kind": "Pod", "apiVersion": "v1", "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}
        wanted = {"spec": {"audiences": [audience], "expirationSeconds": 3600, "boundObjectRef": bound}}
        account = pod["spec"]["serviceAccountName"]
        made = await self._client.request("post", f"{self.core}/serviceaccounts/{account}/token", wanted)
        return str(made["status"]["token"])

    async def delete(self, kind: str, name: str) -> None:
        await self._client.request("delete", f"{self.core}/{kind}/{name}?gracePeriodSeconds=0")


def forged(cluster: Cluster, token: str, key: ec.EllipticCurvePrivateKey | None = None, **claims: object) -> str:
    """A token with other claims, signed as the API server does, or by another key."""
    said = {**jwt.decode(token, options={"verify_signature": False}), **claims}
    pem = (cluster.home / "pki" / "sa.key").read_bytes()
    header = {"kid": jwt.get_unverified_header(token)["kid"]}
    return jwt.encode(said, key or serialization.load_pem_private_key(pem, None), algorithm="ES256", headers=header)  # type: ignore[arg-type]  # the harness makes ECDSA keys


def _of_nobody(token: str) -> dict[str, Any]:
    said = jwt.decode(token, options={"verify_signature": False})["kubernetes.io"]
    nobody = {"name": "nobody", "uid": said["serviceaccount"]["uid"]}
    claims = {**said, "serviceaccount": nobody}
    return {"sub": f"system:serviceaccount:{said['namespace']}:nobody", "kubernetes.io": claims}


async def until_refused(ask: Callable[[], Awaitable[str]], seconds: float) -> float:
    """Ask again and again, as somebody would who holds the token; the seconds until it is refused."""
    began = time.monotonic()
    while (said := await ask()) != "UNAUTHENTICATED":
        assert said == "OK"
        assert time.monotonic() - began < seconds, f"still good after {seconds} s"
        await asyncio.sleep(0.1)
    return time.monotonic() - began


async def test_only_tokens_of_accounts_and_pods_that_are_there_get_a_certificate(
    cluster: Cluster, client: KubernetesClient, namespace: str, tmp_path: Path
) -> None:
    """SEC14: each other one is UNAUTHENTICATED, that of a pod that is gone within 10 s."""
    accounts = Accounts(client, namespace)
    pod, lost = await accounts.make("web"), await accounts.make("lost")
    async with calling(str(cluster.kubeconfig), client, namespace, tmp_path / "log") as callers:
        token, of_lost = await accounts.token(pod), await accounts.token(lost)
        assert await callers.sign(forged(cluster, token)) == "OK"  # what is forged below is wrong in one thing only
        now = int(time.time())
        bad = {
            "missing": "",
            "nonsense": "nonsense",
            "expired": forged(cluster, token, exp=now - 60, iat=now - 4000, nbf=now - 4000),
            "wrong audience": await accounts.token(pod, "vault"),
            "another issuer": forged(cluster, token, iss="https://elsewhere.example"),
            "another key": forged(cluster, token, ec.generate_private_key(ec.SECP256R1())),
            "an account that never was": forged(cluster, token, **_of_nobody(token)),
        }
        said = {what: await callers.sign(each) for what, each in bad.items()}
        assert said == dict.fromkeys(bad, "UNAUTHENTICATED")
        assert await callers.sign(token) == "OK"
        await accounts.delete("pods", "web")
        await accounts.delete("serviceaccounts", "lost")
        assert await until_refused(lambda: callers.sign(token), GONE + 2) < GONE + 1
        assert await callers.sign(of_lost) == "UNAUTHENTICATED"  # of an account that is gone; never asked about before
        assert "Traceback" not in (tmp_path / "log").read_text()


async def test_while_reviews_fail_or_take_long_streams_live_on_and_callers_are_told_to_come_again(
    proxy: FaultProxy, client: KubernetesClient, namespace: str, tmp_path: Path
) -> None:
    """FT40: an answer within the deadline of 2 s, no stream dropped, and all is well once reviews are."""
    accounts = Accounts(client, namespace)
    pod = await accounts.make("web")
    await client.request("patch", f"{accounts.core}/pods/web/status", RUNNING, kind="application/merge-patch+json")
    async with calling(proxy.kubeconfig, client, namespace, tmp_path / "log") as callers:
        token, other = await accounts.token(pod), await accounts.token(pod)
        stream = await callers.stream(token, "web", namespace)
        proxy.delay["tokenreviews"] = asyncio.Event()
        began = time.monotonic()
        assert await callers.sign(other) == "UNAVAILABLE"
        assert DEADLINE - 0.5 < time.monotonic() - began < DEADLINE + 2
        del proxy.delay["tokenreviews"]
        proxy.refuse = _no_reviews
        assert await callers.sign(other) == "UNAVAILABLE"
        await client.request("post", f"{accounts.core}/services", SERVICE)
        found = f"outbound|80||late.{namespace}.svc.cluster.local"
        while found not in await _next(stream):
            assert not stream.done()
        proxy.refuse = lambda _: None
        assert await callers.sign(other) == "OK"
        assert not stream.done()
        stream.cancel()


RUNNING = {"status": {"phase": "Running", "podIP": "10.1.0.7", "podIPs": [{"ip": "10.1.0.7"}]}}
SERVICE = {"metadata": {"name": "late"}, "spec": {"ports": [{"name": "http", "port": 80}]}}


def _no_reviews(asked: web.Request) -> web.Response | None:
    return web.Response(status=500) if asked.path.endswith("tokenreviews") else None


@pytest.mark.parametrize(
    "status",
    [
        None,
        {},
        {"user": {"username": "system:serviceaccount:a:b"}},
        {"user": {"username": "admin", "extra": {"authentication.kubernetes.io/pod-name": ["x"]}}},
    ],
)
def test_tokens_that_are_bound_to_no_pod(status: object) -> None:
    assert bound_pod(status) is None


def test_the_pod_of_a_token() -> None:
    extra = {"authentication.kubernetes.io/pod-name": ["x"], "authentication.kubernetes.io/pod-uid": ["1"]}
    status = {"user": {"username": "system:serviceaccount:a:b", "extra": extra}}
    assert bound_pod(status) == BoundPod(namespace="a", name="x", uid="1")
