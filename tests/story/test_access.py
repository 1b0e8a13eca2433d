"""Who gets in: one rule shuts out whoever has no identity (SEC55, SEC56), and policies refuse what they say."""

from __future__ import annotations

import datetime as dt
import json
import sys
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
import pytest_asyncio
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from examples.demo.mesh import FILES, PATIENCE, BookInfo
from examples.demo.steps import LEGACY
from istiod.ca import keystore
from istiod.ca.authority import Material, self_signed
from node.options import Options
from tests import waiting
from tests.jwks.made import ec_signer, key_set
from tests.story import changes, intruder, load, shop, worlds

pytestmark = [
    pytest.mark.root,
    pytest.mark.envoy,
    pytest.mark.timeout(120, func_only=True),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(bool(worlds.runs_here()), reason=worlds.runs_here()),
]
HOUR = dt.timedelta(hours=1)
IDENTITY = "spiffe://cluster.local/ns/default/sa/bookinfo-productpage"
SERVED, UNDECLARED = 9080, 7070
"""The port that every pod of BookInfo declares, and one of which no object speaks though somebody listens."""
KEPT = 60
"""Requests of either load that have to be answered before, between and after changes."""
REFUSED = " NR filter_chain_not_found "
"""What a proxy logs of an intruder's connection in plaintext."""
ASKED = ("reviews=http://reviews:9080/reviews/0", "details=http://details:9080/details/0")


def rule(mode: str) -> str:
    """One rule for the whole mesh."""
    return yaml.safe_dump(
        {
            "apiVersion": "security.istio.io/v1",
            "kind": "PeerAuthentication",
            "metadata": {"name": "default", "namespace": "istio-system"},
            "spec": {"mtls": {"mode": mode}},
        }
    )


def leaf(issuer: Material, ends: dt.timedelta) -> str:
    """A certificate of productpage's identity, with its key."""
    root = x509.load_pem_x509_certificate(issuer.certificate)
    signer = serialization.load_pem_private_key(issuer.key, None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key, now = ec.generate_private_key(ec.SECP256R1()), dt.datetime.now(dt.UTC)
    built = x509.CertificateBuilder(
        issuer_name=root.subject,
        subject_name=x509.Name([]),
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=now - 2 * HOUR,
        not_valid_after=now + ends,
    ).add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(IDENTITY)]), critical=True)
    form = serialization.PrivateFormat.PKCS8
    secret = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    return (built.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM) + secret).decode()


def certificates(book: BookInfo) -> str:
    """What intruders show, as they want it: one is good, so that refusals mean something."""
    ca = keystore.Folder(book.mesh.config.parent / "ca").load()
    assert ca is not None
    other = self_signed("cluster.local", dt.datetime.now(dt.UTC))
    return json.dumps({"good": leaf(ca, HOUR), "expired": leaf(ca, -HOUR), "foreign": leaf(other, HOUR)})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[shop.Running]:
    """BookInfo under load from outside and inside, a pod without a sidecar, and listeners of which nobody speaks."""
    asker = {**shop.ASKER, "spec": {"containers": [{"name": "asker", "image": shop.LOAD, "args": list(ASKED)}]}}
    options = Options(images={shop.LOAD: shop.program(shop.LOAD)})
    async with worlds.world([*FILES, LEGACY], options) as book:
        shop.write(book.mesh.config / "mtls.yaml", rule("PERMISSIVE"))
        await book.mesh.apply(changes.text([asker]))  # later than whom it asks: nobody answers before it is ready
        await book.mesh.ready(PATIENCE)
        for pod in pods(book):
            serve = [sys.executable, "-m", "http.server", str(UNDECLARED)]
            script = f"{' '.join(serve)} --directory /var/empty >/dev/null 2>&1 &"
            code, _, err = await book.mesh.exec(pod, ["sh", "-c", script])
            assert code == 0, err
        urls = [("page", f"{book.client.base}/productpage"), ("api", f"{book.client.base}/api/v1/products/0/ratings")]
        async with load.over_http(urls) as outside, load.running(outside):
            found = shop.Running(book, outside)
            await found.more(KEPT)
            yield found


def pods(book: BookInfo) -> dict[str, str]:
    """Name -> address of BookInfo's pods."""
    return {
        str(each["metadata"]["name"]): str(each["status"]["podIP"])
        for each in book.mesh.pods()
        if each["metadata"]["namespace"] == "default" and "app" in each["metadata"]["labels"]
        if each["metadata"]["name"] != "asker"
    }


async def attempts(book: BookInfo) -> Mapping[str, Mapping[str, str]]:
    """What every way in to every port of every pod of BookInfo gives."""
    places = [f"{address}:{port}" for address in pods(book).values() for port in (SERVED, UNDECLARED)]
    program = [sys.executable, "-m", intruder.__name__, certificates(book), *places]
    code, out, err = await book.mesh.exec("legacy/client", program)
    assert code == 0, err
    found: dict[str, dict[str, str]] = json.loads(out)
    assert len(found) == 12
    return found


def answered(found: Mapping[str, Mapping[str, str]], way: str) -> set[bool]:
    """Whether the app answered to a way, at all places."""
    return {said.startswith(intruder.ANSWERED) for each in found.values() for name, said in each.items() if name == way}


WRONG = ("no-certificate", "expired", "foreign")


async def test_one_rule_shuts_everybody_out_but_the_mesh_and_breaks_nothing(running: shop.Running) -> None:
    """PERMISSIVE -> STRICT -> PERMISSIVE. Whoever is refused sees no byte of an answer, on any port of any pod."""
    book = running.book
    before = await attempts(book)
    for mode in ("STRICT", "PERMISSIVE"):
        await running.apply(changes.Change(name=mode, files={"mtls.yaml": rule(mode)}, after=True))
        await running.more(KEPT)
        if mode == "STRICT":
            strict = await attempts(book)
            await running.more(KEPT)
    after = await attempts(book)

    assert answered(before, intruder.PLAIN) == answered(after, intruder.PLAIN) == {True}
    assert answered(strict, intruder.PLAIN) == {False}
    for alpn in intruder.ALPNS:
        assert answered(strict, f"good {alpn}".strip()) == {True}, strict
        for name in WRONG:
            assert answered(strict, f"{name} {alpn}".strip()) == {False}, strict
    failed = [line for line in running.failed() if REFUSED not in line]
    assert failed == [], running.story()
    assert all(pod_is_ready(each) for each in book.mesh.pods())  # probes come from outside of the mesh


def pod_is_ready(pod: Mapping[str, Any]) -> bool:
    """Whether it is ready, and nothing in it has been started again."""
    states = pod["status"]["containerStatuses"]
    return all(each["ready"] and each["restartCount"] == 0 for each in states)


POLICIES = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: page-only}}
spec:
  selector: {{matchLabels: {{app: details}}}}
  rules: [{{from: [{{source: {{principals: [cluster.local/ns/default/sa/bookinfo-productpage]}}}}]}}]
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: tokens}}
spec:
  selector: {{matchLabels: {{app: reviews}}}}
  jwtRules: [{{issuer: "https://issuer.example", jwks: '{keys}'}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: with-token}}
spec:
  selector: {{matchLabels: {{app: reviews}}}}
  action: DENY
  rules: [{{from: [{{source: {{notRequestPrincipals: ["*"]}}}}], to: [{{operation: {{paths: [/reviews/0]}}}}]}}]
"""


async def test_policies_refuse_callers_and_tokens_and_nobody_else(running: shop.Running) -> None:
    """Last of the file: they stay until the mesh ends."""
    issuer = ec_signer()
    token, foreign, book = issuer.token(), ec_signer().token(), running.book

    async def asked(url: str, *headers: str) -> str:
        more = [part for header in headers for part in ("-H", header)]
        ask = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-m", "10", *more, url]
        return (await book.mesh.exec("asker", ask, "asker"))[1]

    details, reviews = "http://details:9080/details/0", "http://reviews:9080/reviews/0"
    assert await asked(details) == await asked(reviews) == "200"

    async def refused(url: str) -> None:
        """Connections from before a policy drain, for 45 s at most: what comes on them is judged as before."""

        async def forbidden() -> bool:
            """By each of what may be a service's three pods, in turn, and by connections that stay."""
            return {await asked(url) for _ in range(12)} == {"403"}

        await waiting.until(forbidden, f"{url} is refused", seconds=60)

    await book.converge(POLICIES.format(keys=key_set(issuer)))
    await refused(details)

    async def let_in() -> bool:
        """503 is productpage's word for an answer that it waited for in vain (WAIT): a busy machine, no policy."""
        status = (await book.client.get("/api/v1/products/0")).status
        assert status in (200, 503)
        return status == 200

    await waiting.until(let_in, "productpage is let in", seconds=60)
    await refused(reviews)
    assert await asked(reviews, f"authorization: Bearer {foreign}") == "401"
    assert await asked(reviews, f"authorization: Bearer {token}") == "200"
