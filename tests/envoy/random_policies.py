"""Random policies and requests out of small vocabularies, so that they often meet."""

from __future__ import annotations

import random
from typing import Any

from tests.envoy.policy_oracle import Request

NAMESPACE, LABELS = "foo", {"app": "web", "version": "v1"}
IDENTITIES = (
    "",
    "cluster.local/ns/foo/sa/a",
    "cluster.local/ns/foo-x/sa/b",
    "old.td/ns/bar/sa/a",
    "other.td/ns/foo/sa/a.b",
)
SNIS = ("", "web.example", "api.example", "web.other", "x")
"""The server name that each identity asks for: by index, so that connections are few."""
HOSTS = ("web.example", "WEB.example", "web.example:80", "api.example", "x")
HEADERS = ((), (("x-a", "one"),), (("x-a", "two"),), (("x-a", "one,two"),), (("x-a", "one"), ("x-a", "two")))
PATHS = ("/", "/a", "/a/b", "/a/b/c", "/info.html", "/info?x=/a", "/deep/")
SOURCES = ("127.0.0.1", "127.0.1.1")
REMOTES = ("", "192.0.2.7", "2001:db8::7")


def policies(rng: random.Random, port: int) -> list[dict[str, Any]]:
    return [_policy(rng, number, port) for number in range(rng.randint(1, 4))]


def _policy(rng: random.Random, number: int, port: int) -> dict[str, Any]:
    action = rng.choice(("ALLOW", "ALLOW", "ALLOW", "DENY", "DENY", "AUDIT", "CUSTOM"))
    rules = [_rule(rng, port, action) for _ in range(rng.randint(action in ("DENY", "CUSTOM"), 3))]
    spec: dict[str, Any] = {"action": action, **({"rules": rules} if rules else {})}
    if action == "CUSTOM":
        spec["provider"] = {"name": "gone"}
    if selector := rng.choice(({}, {}, {"app": "web"}, {"version": "v2"})):
        spec["selector"] = {"matchLabels": selector}
    tried = action in ("ALLOW", "DENY") and rng.random() < 0.1
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {
            "name": f"p-{number}",
            "namespace": rng.choice((NAMESPACE, NAMESPACE, NAMESPACE, "istio-system", "bar")),
            **({"annotations": {"istio.io/dry-run": "true"}} if tried else {}),
        },
        "spec": spec,
    }


def _rule(rng: random.Random, port: int, action: str) -> dict[str, Any]:
    ports = (str(port), str(port), "80")
    sources = {
        "ipBlocks": ("127.0.0.1", "127.0.0.0/24", "10.0.0.0/8"),
        "remoteIpBlocks": ("192.0.2.0/24", "127.0.0.1", "2001:db8::/32"),
    }
    identities = {
        "principals": ("*", "cluster.local/ns/foo/sa/a", "cluster.local/ns/bar/sa/a", "*/sa/a", "other.td/*", "*/a.b"),
        "namespaces": ("foo", "foo*", "*-x", "*", "bar"),
        "requestPrincipals": ("*", "issuer/*"),
    }
    apart = {"serviceAccounts": ("a", "foo-x/b", "bar/a", "foo/a.b"), "trustDomains": ("cluster.local", "other*", "*")}
    if action != "CUSTOM":
        sources |= rng.choice((identities, apart))
    operations = {
        "hosts": ("web.example", "*.example", "web*", "API.EXAMPLE", "*"),
        "methods": ("GET", "P*", "*", "*ST"),
        "ports": ports,
        "paths": ("/a", "/a/*", "*.html", "/a/{*}", "/a/{*}/c", "/{**}/c", "/deep/{**}", "*"),
    }
    conditions = {
        "request.headers[x-a]": ("one", "t*", "*o", "*"),
        "source.ip": sources["ipBlocks"],
        "remote.ip": sources["remoteIpBlocks"],
        "destination.port": ports,
        "connection.sni": ("web.example", "*.example", "web*", "*"),
    }
    if action != "CUSTOM":
        conditions |= {"source.namespace": identities["namespaces"], "source.principal": identities["principals"]}
        conditions |= {"request.auth.claims[group]": ("admin",)}
    rule: dict[str, Any] = {}
    if rng.random() < 0.6:
        rule["from"] = [{"source": _part(rng, sources)} for _ in range(rng.randint(1, 2))]
    if rng.random() < 0.6:
        rule["to"] = [{"operation": _part(rng, operations)} for _ in range(rng.randint(1, 2))]
    if rng.random() < 0.4:
        rule["when"] = [
            _condition(rng, key, conditions[key]) for key in rng.sample(list(conditions), rng.randint(1, 2))
        ]
    return rule


def _part(rng: random.Random, known: dict[str, tuple[str, ...]]) -> dict[str, list[str]]:
    found = {}
    for name in rng.sample(list(known), rng.randint(1, 2)):
        said = f"not{name[0].upper()}{name[1:]}" if rng.random() < 0.3 else name
        found[said] = _some(rng, known[name])
    return found


def _condition(rng: random.Random, key: str, known: tuple[str, ...]) -> dict[str, Any]:
    names = rng.choice((("values",), ("values",), ("notValues",), ("values", "notValues")))
    return {"key": key, **{name: _some(rng, known) for name in names}}


def _some(rng: random.Random, known: tuple[str, ...]) -> list[str]:
    return rng.sample(known, min(len(known), rng.randint(1, 2)))


def request(rng: random.Random, port: int, *, tcp: bool) -> Request:
    who = rng.randrange(len(IDENTITIES))
    source = rng.choice(SOURCES)
    remote = "" if tcp else rng.choice(REMOTES)
    return Request(
        identity=IDENTITIES[who],
        source=source,
        remote=remote or source,
        port=port,
        sni=SNIS[who],
        host=rng.choice(HOSTS),
        method=rng.choice(("GET", "POST", "DELETE")),
        path=rng.choice(PATHS),
        headers=rng.choice(HEADERS),
        tcp=tcp,
    )
