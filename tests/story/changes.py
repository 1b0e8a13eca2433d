"""Changes that a user could make to a small shop, drawn from a seed. Pure: names and YAML, no mesh.

The shop is ``hello`` (versions v1 to v3 on port 5000) and ``bin`` (on port 8000), behind the gateway ``edge``. Each
change is one that leaves the shop working if it is done in the user's order: no subset goes that a rule names, no last
pod of a version that traffic goes to, nothing is named before it is there. One kind of change is bolder: a rule and its
subset come, or go, in one file; that the proxies then get them in the safe order is the control plane's part.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Raw = dict[str, Any]
VERSIONS = ("v1", "v2", "v3")
MODES = ("", "PERMISSIVE", "STRICT")
BALANCERS: tuple[Raw, ...] = (
    {},
    {"loadBalancer": {"simple": "ROUND_ROBIN"}},
    {"loadBalancer": {"simple": "RANDOM"}},
    {"loadBalancer": {"consistentHash": {"httpHeaderName": "x-user"}}},
    {"connectionPool": {"tcp": {"connectTimeout": "3s"}, "http": {"http1MaxPendingRequests": 2000}}},
    {"tls": {"mode": "ISTIO_MUTUAL"}},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change.

    ``files`` are the configuration's files that are new, name to YAML, "" where one goes. ``workloads`` is YAML of
    Services and Deployments, ``gone`` are kinds and names of such that go. ``before``: what came earlier must have
    arrived at all proxies; ``after``: pods must be ready and proxies up to date before the next change.
    """

    name: str
    files: Mapping[str, str] = field(default_factory=dict)
    workloads: str = ""
    gone: tuple[tuple[str, str], ...] = ()
    before: bool = False
    after: bool = False


def text(documents: Iterable[Raw]) -> str:
    """Documents as YAML (JSON is YAML, and says the same in any version of it)."""
    return "\n---\n".join(json.dumps(each, indent=1) for each in documents) + "\n"


def istio(kind: str, name: str, spec: Raw, group: str = "networking.istio.io") -> Raw:
    """An object of Istio's API in the namespace default."""
    return {
        "apiVersion": f"{group}/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    }


def destination(subset: str = "", weight: int | None = None) -> Raw:
    """A route to hello. Its port is named, since a gateway cannot know which it is once the Service has two."""
    to: Raw = {"host": "hello", "port": {"number": 5000}} | ({"subset": subset} if subset else {})
    return {"destination": to} | ({} if weight is None else {"weight": weight})


def service(name: str, port: int, target: int, *, second: bool = False) -> Raw:
    """A Service of HTTP; ``second`` gives it another port."""
    ports = [{"name": "http", "port": port, "targetPort": target}]
    ports += [{"name": "http-second", "port": port + 1, "targetPort": target}] if second else []
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"selector": {"app": name}, "ports": ports},
    }


def deployment(name: str, version: str, image: str, port: int, *, replicas: int = 1, run: int = 0) -> Raw:
    """A Deployment with a readiness probe; another ``run`` makes new pods of it (`kubectl rollout restart`)."""
    labels = {"app": name, "version": version}
    path = "/health" if name == "hello" else "/get"
    probe = {"httpGet": {"path": path, "port": port}, "periodSeconds": 1}
    container = {"name": name, "image": image, "ports": [{"containerPort": port}], "readinessProbe": probe}
    template = {
        "metadata": {"labels": labels, "annotations": {"run": str(run)}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 10},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": f"{name}-{version}", "labels": labels},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
    }


@dataclass(slots=True)
class Shop:
    """What is there. Every file is made from it anew."""

    replicas: dict[str, int] = field(default_factory=lambda: dict.fromkeys(VERSIONS, 1))
    runs: dict[str, int] = field(default_factory=lambda: dict.fromkeys(VERSIONS, 0))
    subsets: dict[str, str] = field(default_factory=lambda: {version: version for version in VERSIONS})
    """Subset of hello to its version."""
    rules: list[Raw] = field(default_factory=list)
    """spec.http of VirtualService hello; there is none without rules."""
    edge: list[Raw] = field(default_factory=lambda: [destination()])
    """Where the gateway sends /hello."""
    policy: Raw = field(default_factory=dict)
    second: bool = False
    mode: str = ""
    scope: bool = False
    entries: int = 0
    turned: bool = False
    """The rule stands before its subsets in the file."""

    def named(self) -> set[str]:
        """Subsets that a rule names."""
        routes = [each for rule in self.rules for each in rule["route"]] + self.edge
        return {each["destination"]["subset"] for each in routes if "subset" in each["destination"]}

    def live(self) -> list[str]:
        """Subsets with pods."""
        return sorted(name for name, version in self.subsets.items() if self.replicas[version])

    def hello(self) -> str:
        """The file of hello's rule and subsets."""
        subsets = [{"name": name, "labels": {"version": version}} for name, version in sorted(self.subsets.items())]
        spec = {"host": "hello", "subsets": subsets} | ({"trafficPolicy": self.policy} if self.policy else {})
        documents = [istio("DestinationRule", "hello", spec)]
        if self.rules:
            documents.append(istio("VirtualService", "hello", {"hosts": ["hello"], "http": self.rules}))
        return text(reversed(documents) if self.turned else documents)

    def gateway(self) -> str:
        """The file of the gateway and its routes."""
        port = {"number": 80, "name": "http", "protocol": "HTTP"}
        server = {"port": port, "hosts": ["*"]}
        to_bin = {"destination": {"host": "bin", "port": {"number": 8000}}}
        http = [
            {"match": [{"uri": {"prefix": "/hello"}}], "route": self.edge},
            {"route": [to_bin]},
        ]
        return text(
            [
                istio("Gateway", "edge", {"selector": {"istio": "ingressgateway"}, "servers": [server]}),
                istio("VirtualService", "edge", {"hosts": ["*"], "gateways": ["edge"], "http": http}),
            ]
        )

    def security(self) -> str:
        """The file of the namespace's mTLS mode."""
        if not self.mode:
            return ""
        return text([istio("PeerAuthentication", "default", {"mtls": {"mode": self.mode}}, "security.istio.io")])

    def more(self) -> str:
        """The file of all else."""
        hosts = {"hosts": ["./*", "istio-system/*"]}
        documents = [istio("Sidecar", "default", {"egress": [hosts]})] if self.scope else []
        for number in range(self.entries):
            port = {"number": 443, "name": "tls", "protocol": "TLS"}
            spec = {"hosts": [f"api{number}.example.com"], "ports": [port], "resolution": "NONE"}
            documents.append(istio("ServiceEntry", f"api{number}", spec))
        return text(documents) if documents else ""

    def version(self, version: str) -> Raw:
        """A version's Deployment."""
        image = f"istio/examples-helloworld-{version}"
        return deployment("hello", version, image, 5000, replicas=self.replicas[version], run=self.runs[version])


def start() -> Change:
    """The shop as it opens."""
    shop = Shop()
    workloads = [service("hello", 5000, 5000), service("bin", 8000, 8080)]
    workloads += [shop.version(version) for version in VERSIONS]
    workloads.append(deployment("bin", "v1", "mccutchen/go-httpbin", 8080))
    files = {"hello.yaml": shop.hello(), "edge.yaml": shop.gateway()}
    return Change(name="open", files=files, workloads=text(workloads), after=True)


Draw = Callable[[Shop, random.Random], Change | None]
"""Makes a change and gives it; None where none of its kind is allowed now."""


def _split(shop: Shop, dice: random.Random) -> list[Raw]:
    """Weighted routes over some live subsets."""
    chosen = dice.sample(shop.live(), dice.randint(1, min(3, len(shop.live()))))
    cuts = sorted(dice.randint(0, 100) for _ in chosen[1:])
    weights = [high - low for low, high in zip([0, *cuts], [*cuts, 100], strict=True)]
    return [destination(subset, weight) for subset, weight in zip(chosen, weights, strict=True)]


def weights(shop: Shop, dice: random.Random) -> Change:
    """The mesh's rule becomes a split."""
    shop.rules = [{"route": _split(shop, dice)}]
    return Change(name="weights", files={"hello.yaml": shop.hello()})


def edge(shop: Shop, dice: random.Random) -> Change:
    """The gateway's rule becomes a split, or goes to the service."""
    shop.edge = dice.choice(([destination()], _split(shop, dice)))
    return Change(name="gateway route", files={"edge.yaml": shop.gateway()})


def match(shop: Shop, dice: random.Random) -> Change:
    """A rule for some users stands before the others."""
    kind, value = dice.choice((("exact", "user-1"), ("prefix", "user"), ("regex", "user-[0-2]")))
    rule = {"match": [{"headers": {"x-user": {kind: value}}}], "route": _split(shop, dice)}
    shop.rules = [rule, {"route": _split(shop, dice)}]
    return Change(name=f"header match {kind}", files={"hello.yaml": shop.hello()})


def details(shop: Shop, dice: random.Random) -> Change:
    """A fault of 0 %, a timeout, retries, headers, a rewrite: what changes a route and no answer."""
    zero = {"percentage": {"value": 0}}
    more: Raw = dice.choice(
        (
            {"fault": {"delay": {"fixedDelay": "5s", **zero}, "abort": {"httpStatus": 503, **zero}}},
            {"timeout": "10s"},
            {"retries": {"attempts": 3, "perTryTimeout": "4s", "retryOn": "connect-failure,refused-stream"}},
            {"headers": {"request": {"set": {"x-shop": "open"}}, "response": {"add": {"x-shop": "open"}}}},
            {"name": f"rule-{dice.randint(1, 9)}"},
        )
    )
    shop.rules = [{"route": _split(shop, dice), **more}]
    return Change(name=f"rule with {next(iter(more))}", files={"hello.yaml": shop.hello()})


def no_rule(shop: Shop, _: random.Random) -> Change | None:
    """The VirtualService goes."""
    if not shop.rules:
        return None
    shop.rules = []
    return Change(name="no rule", files={"hello.yaml": shop.hello()})


def policy(shop: Shop, dice: random.Random) -> Change:
    """The DestinationRule's policy changes: every cluster of hello is another."""
    shop.policy = dice.choice(BALANCERS)
    return Change(name=f"policy {next(iter(shop.policy), 'none')}", files={"hello.yaml": shop.hello()})


def add_subset(shop: Shop, dice: random.Random) -> Change:
    """A further subset."""
    name = f"s{dice.randint(1, 99)}"
    if name not in shop.subsets:
        shop.subsets[name] = dice.choice(VERSIONS)
    return Change(name=f"add subset {name}", files={"hello.yaml": shop.hello()}, after=True)


def remove_subset(shop: Shop, dice: random.Random) -> Change | None:
    """A subset goes that no rule names, nor has named before the last change arrived."""
    spare = sorted(set(shop.subsets) - shop.named())
    if not spare or len(set(shop.live()) - {spare[0]}) < 1:
        return None
    name = dice.choice(spare)
    if shop.live() == [name]:
        return None
    del shop.subsets[name]
    return Change(name=f"remove subset {name}", files={"hello.yaml": shop.hello()})


def together(shop: Shop, dice: random.Random) -> Change | None:
    """A rule and its subset come in one file; where the rules name such a subset already, both go."""
    ours = sorted(name for name in shop.named() if name.startswith("pair"))
    shop.turned = dice.random() < 0.5
    if ours:
        if any("pair" in json.dumps(each) for each in shop.edge) or not set(shop.live()) - set(ours):
            return None
        for name in ours:
            del shop.subsets[name]
        shop.rules = []
        return Change(name=f"rule and subset {ours} go at once", files={"hello.yaml": shop.hello()})
    version = dice.choice([version for version in VERSIONS if shop.replicas[version]])
    name = f"pair{dice.randint(1, 99)}"
    shop.subsets[name] = version
    shop.rules = [{"route": [destination(name)]}]
    return Change(name=f"rule and subset {name} come at once", files={"hello.yaml": shop.hello()})


def scale(shop: Shop, dice: random.Random) -> Change | None:
    """More or fewer pods of a version; none only of one that gets no traffic and is not the last."""
    version = dice.choice(VERSIONS)
    used = {shop.subsets[name] for name in shop.named()}
    others = any(shop.subsets[name] != version for name in shop.live())
    least = 0 if version not in used and others else 1
    wanted = dice.randint(least, 2)
    if wanted == shop.replicas[version]:
        return None
    shop.replicas[version] = wanted
    return Change(name=f"scale {version} to {wanted}", workloads=text([shop.version(version)]), before=True, after=True)


def restart(shop: Shop, dice: random.Random) -> Change | None:
    """New pods for a version, one after the other."""
    version = dice.choice(VERSIONS)
    if not shop.replicas[version]:
        return None
    shop.runs[version] += 1
    return Change(name=f"restart {version}", workloads=text([shop.version(version)]), before=True, after=True)


def port(shop: Shop, _: random.Random) -> Change:
    """The Service gets a second port, or loses it."""
    shop.second = not shop.second
    name = f"{'add' if shop.second else 'remove'} a port of hello"
    return Change(name=name, workloads=text([service("hello", 5000, 5000, second=shop.second)]))


def mtls(shop: Shop, dice: random.Random) -> Change:
    """STRICT, PERMISSIVE or nothing said."""
    shop.mode = dice.choice([mode for mode in MODES if mode != shop.mode])
    return Change(name=f"mTLS {shop.mode or 'unset'}", files={"security.yaml": shop.security()})


def scope(shop: Shop, _: random.Random) -> Change:
    """A Sidecar narrows what the namespace sees to what it needs, or goes."""
    shop.scope = not shop.scope
    return Change(name=f"Sidecar {'comes' if shop.scope else 'goes'}", files={"more.yaml": shop.more()})


def entries(shop: Shop, dice: random.Random) -> Change:
    """Some ServiceEntries that nobody asks for."""
    shop.entries = dice.randint(0, 3)
    return Change(name=f"{shop.entries} ServiceEntries", files={"more.yaml": shop.more()})


KINDS: Mapping[Draw, int] = {
    weights: 5, edge: 4, match: 4, details: 4, no_rule: 2, policy: 3, add_subset: 3, remove_subset: 3, together: 4,
    scale: 4, restart: 2, port: 3, mtls: 4, scope: 2, entries: 1,
}  # fmt: skip
"""How often each kind is drawn."""


def changes(seed: int, count: int) -> Iterator[Change]:
    """So many changes after ``start``; the same for the same seed."""
    dice, shop = random.Random(seed), Shop()
    made = 0
    while made < count:
        (draw,) = dice.choices(list(KINDS), list(KINDS.values()))
        change = draw(shop, dice)
        if change is not None:
            made += 1
            yield change
