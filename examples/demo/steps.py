"""The demo's steps. Each makes one claim, measures it on the running mesh and says what it saw."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus

from crds.key import NETWORKING, ConfigKey
from examples.demo import traffic
from examples.demo.mesh import PATIENCE, RULES, BookInfo
from istiod.watch import files

SAMPLE = 500
SHARE, TOLERANCE = 20.0, 7.0
"""Percent of v2, and how far a sample of 500 may be from it: four standard deviations."""
DELAY = 2.0
KEPT = 60
"""Requests that a steady load has to get answered before and after a change."""
LEGACY = """
apiVersion: v1
kind: Namespace
metadata: {name: legacy}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: legacy, labels: {app: client}}
spec:
  containers:
    - {name: client, image: busybox, command: [sleep, "86400"]}
"""
SCALED = """
apiVersion: apps/v1
kind: Deployment
metadata:
  name: reviews-v3
  labels: {app: reviews, version: v3}
spec:
  replicas: 2
  selector:
    matchLabels: {app: reviews, version: v3}
  template:
    metadata:
      labels: {app: reviews, version: v3}
    spec:
      serviceAccountName: bookinfo-reviews
      containers:
        - name: reviews
          image: istio/examples-bookinfo-reviews-v3:1.20.3
          ports:
            - containerPort: 9080
          readinessProbe:
            httpGet: {path: /health, port: 9080}
            periodSeconds: 1
"""


class ClaimError(Exception):
    """A step saw something else than it claims."""


@dataclass(frozen=True, slots=True)
class Step:
    """A claim, and the function that shows it: gives what was seen, raises ClaimError otherwise."""

    claim: str
    show: Callable[[BookInfo], Awaitable[str]]


def require(condition: object, seen: str) -> None:
    """Raise ClaimError with what was seen, unless the condition holds."""
    if not condition:
        raise ClaimError(seen)


async def eventually(
    ask: Callable[[], Awaitable[traffic.Reply]], good: Callable[[traffic.Reply], bool]
) -> traffic.Reply:
    """Ask until the reply is good, for at most PATIENCE seconds; the last reply."""
    deadline = time.monotonic() + PATIENCE
    while True:
        reply = await ask()
        if good(reply) or time.monotonic() > deadline:
            return reply
        await asyncio.sleep(0.1)


async def page(book: BookInfo) -> str:
    """The page comes through the ingress gateway and holds what all services said."""
    reply = await eventually(lambda: book.client.get(traffic.PAGE), lambda r: "Reviewer1" in r.text)
    require(
        reply.status == HTTPStatus.OK and "Shakespeare" in reply.text and "Reviewer1" in reply.text, reply.text[:300]
    )
    return f"{len(reply.text)} bytes in {reply.seconds * 1000:.0f} ms through gateway, productpage, details and reviews"


async def split(book: BookInfo) -> str:
    """80/20 between v1 and v2, counted."""
    await book.converge(RULES / "reviews-80-20.yaml")
    seen = await book.client.versions(SAMPLE)
    share = 100 * seen["v2"] / SAMPLE
    require(seen.keys() <= {"v1", "v2"} and abs(share - SHARE) <= TOLERANCE, f"{dict(seen)}")
    return f"of {SAMPLE} requests {seen['v1']} went to v1, {seen['v2']} to v2 ({share:.1f} %)"


async def header(book: BookInfo) -> str:
    """One user by header, everybody else elsewhere."""
    await book.converge(RULES / "reviews-jason-v2.yaml")
    jason, other = await book.client.versions(20, user="jason"), await book.client.versions(20)
    require(jason == {"v2": 20} and other == {"v1": 20}, f"jason {dict(jason)}, others {dict(other)}")
    return "jason: 20 of 20 to v2; others: 20 of 20 to v1"


async def delay(book: BookInfo) -> str:
    """The service ratings is slow for one user."""
    await book.converge(RULES / "ratings-delay.yaml")
    jason, other = await book.client.get(traffic.REVIEWS, {"end-user": "jason"}), await book.client.get(traffic.REVIEWS)
    require(jason.seconds >= DELAY > other.seconds, f"jason {jason.seconds:.2f} s, others {other.seconds:.2f} s")
    return f"jason waited {jason.seconds:.2f} s, others {other.seconds:.2f} s"


async def abort(book: BookInfo) -> str:
    """The service ratings fails for one user, and the page lives on."""
    await book.converge(RULES / "ratings-abort.yaml")
    reply = await book.client.get(traffic.PAGE, {"end-user": "jason"})
    require(
        reply.status == HTTPStatus.OK and "Ratings service is currently unavailable" in reply.text, reply.text[-600:]
    )
    await book.mesh.delete("VirtualService", "ratings")
    return "jason's page stands and says that ratings are unavailable"


async def strict(book: BookInfo) -> str:
    """A client without identity is served before the rule, and refused after it; the mesh's own traffic goes on."""
    await book.mesh.apply(LEGACY)
    await book.mesh.ready(PATIENCE)
    ask = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-m", "5", "http://details.default:9080/details/0"]
    before = await book.mesh.exec("legacy/client", ask)
    require(before[1] == "200", f"before the rule: {before}")
    seconds = await book.converge(RULES / "strict-mtls.yaml")
    after = await book.mesh.exec("legacy/client", ask)
    require(after[0] != 0 and after[1] == "000", f"after the rule: {after}")
    require((await book.client.versions(20)).keys() == {"v1"}, "the mesh's own traffic failed")
    return (
        f"plaintext client: 200 before, connection refused by Envoy after ({seconds * 1000:.0f} ms to the last proxy)"
    )


async def switch(book: BookInfo) -> str:
    """All traffic moves to v3 under load without a failed request."""
    async with traffic.Load(book.client) as load:
        await load.more(KEPT)
        seconds = await book.converge(RULES / "reviews-v3.yaml")
        await load.more(KEPT)
        seen = await book.client.versions(20)
    require(seen == {"v3": 20}, f"after the switch: {dict(seen)}")
    require(not load.failed, f"{len(load.failed)} of {load.total} requests failed, the first: {load.failed[:1]}")
    return f"{load.total} requests, 0 failed; {seconds * 1000:.0f} ms from the file's change to the last proxy's ACK"


async def kill(book: BookInfo) -> str:
    """One of two pods goes away under load without a failed request."""
    await book.mesh.apply(SCALED)
    await book.mesh.ready(PATIENCE)
    async with traffic.Load(book.client) as load:
        await load.more(KEPT)
        victim = await book.mesh.kill("reviews-v3")
        await load.more(KEPT)
        await book.mesh.ready(PATIENCE)
        await load.more(KEPT)
    require(not load.failed, f"{len(load.failed)} of {load.total} requests failed, the first: {load.failed[:1]}")
    return f"{victim} deleted: {load.total} requests, 0 failed; its successor is ready"


async def trace(book: BookInfo) -> str:
    """An access-log line of productpage's sidecar names the rule that routed it; the rule's line is looked up."""
    await book.client.versions(1)
    line = await logged(book, "outbound|9080|v3|reviews")
    found = re.search(r"virtual-service/reviews (spec\.\S+)", line)
    if found is None:
        raise ClaimError(f"no rule in: {line}")
    rule, source = found[1], RULES / "reviews-v3.yaml"
    sources = files.FileSet()
    sources.put(files.read(source.name, source.read_bytes(), None))
    place = sources.position(ConfigKey(NETWORKING, "VirtualService", "default", "reviews"), rule)
    return f"{line}\n      rule: {rule} of VirtualService reviews, {place}"


async def logged(book: BookInfo, text: str) -> str:
    """The newest line of productpage's proxy log that holds ``text``; waits for Envoy to flush it."""
    deadline = time.monotonic() + PATIENCE
    while True:
        lines = [line for line in book.mesh.logs("productpage-v1", "istio-proxy").splitlines() if text in line]
        if lines:
            return lines[-1]
        require(time.monotonic() < deadline, f"no line with {text} in the log of productpage's proxy")
        await asyncio.sleep(0.2)


STEPS = (
    Step("The page answers through the ingress gateway", page),
    Step("80 % of the traffic to v1, 20 % to v2", split),
    Step("One user is routed by a header", header),
    Step("A delay fault for one user", delay),
    Step("An abort fault for one user", abort),
    Step("One rule makes mTLS strict; a plaintext client is refused", strict),
    Step("Everybody moves to v3 while traffic runs", switch),
    Step("A pod is deleted while traffic runs", kill),
    Step("The access log names the rule behind a request", trace),
)
