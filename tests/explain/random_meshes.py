"""Small meshes by chance whose rules and requests are of one vocabulary, so that many rules hold. A seed gives one."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import yaml

from tests.mesh import fleet

_PATHS = ("/", "/a", "/a/b", "/a/b/c", "/A", "/ab", "/v1/x", "/v1", "/%41", "/a//b", "/a/../b", "/a/./b")
_PREFIXES = ("/", "/a", "/a/", "/v1", "/A", "/ab")
_REGEXES = ("/a.*", "/v[0-9]/.*", "/(a|b)", ".*b", "/a/[^/]+")
_HEADERS = ("x-a", "x-b", "end-user", "user-agent")
_VALUES = ("1", "12", "jason", "Jason", "test", "", "a b")
_VALUE_REGEXES = ("[0-9]+", "j.*", ".*", "(?i)JASON")
_METHODS = ("GET", "POST", "DELETE", "OPTIONS")
_AUTHORITIES = ("web", "web:80", "web.default", "web.default.svc.cluster.local", "shop", "e.example", "10.0.0.1", "x.y")
_GATEWAY_HOSTS = ("a.example", "b.example", "A.example:80", "c.b.example", "other.test", "a.example:8080")
ACCOUNTS = ("default/web", "default/shop", "other/shop")
_QUERIES = ("", "", "?q=1", "?q=12&r=a", "?r=", "?q=jason")

WORLD = (
    fleet.kube_service("web"),
    fleet.kube_service("shop", spec={"clusterIP": "10.0.0.2"}),
    fleet.kube_service("gw", spec={"clusterIP": "10.0.0.3"}, ports=[{"name": "http", "port": 80, "targetPort": 8080}]),
    fleet.pod("web-1", "10.1.0.1", labels={"version": "v1"}, account="web"),
    fleet.pod("web-2", "10.1.0.2", labels={"version": "v2"}, account="web"),
    fleet.pod("shop-1", "10.1.0.3", account="shop"),
    fleet.pod("gw-1", "10.1.0.4"),
    fleet.slice_of("web", fleet.backend("10.1.0.1", "web-1"), fleet.backend("10.1.0.2", "web-2")),
    fleet.slice_of("shop", fleet.backend("10.1.0.3", "shop-1")),
    fleet.slice_of("gw", fleet.backend("10.1.0.4", "gw-1")),
    fleet.istio(
        "DestinationRule",
        "web",
        {"host": "web", "subsets": [{"name": name, "labels": {"version": name}} for name in ("v1", "v2", "v3")]},
    ),
    fleet.istio(
        "ServiceEntry",
        "e",
        {
            "hosts": ["e.example"],
            "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
            "resolution": "STATIC",
            "endpoints": [{"address": "10.9.0.1"}],
        },
    ),
    fleet.istio(
        "Gateway",
        "gw",
        {
            "selector": {"app": "gw"},
            "servers": [
                {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["a.example", "*.b.example"]},
                {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["b.example"]},
            ],
        },
    ),
)
CLIENT = fleet.proxy("shop-1", ip="10.1.0.3", LABELS={"app": "shop"}, SERVICE_ACCOUNT="shop")
SERVER = fleet.proxy("web-1", ip="10.1.0.1", LABELS={"app": "web", "version": "v1"}, SERVICE_ACCOUNT="web")
GATEWAY = fleet.proxy("gw-1", kind="router", ip="10.1.0.4", LABELS={"app": "gw"})


class Chance:
    """Objects and requests of one seed. ``keys`` is a key set for tokens, ``sign`` makes a token of claims."""

    def __init__(self, seed: int, keys: str, sign: Callable[[dict[str, Any]], str]) -> None:
        self.rng = random.Random(seed)
        self._keys = keys
        self._sign = sign

    def objects(self) -> list[str]:
        """The YAML of what stands beside ``WORLD``."""
        rng, found = self.rng, []
        for number, host in enumerate(("web", "shop", "e.example")):
            if rng.random() < 0.8:
                found.append(fleet.istio("VirtualService", f"vs-{number}", self._service([host])))
        for number, host in enumerate(rng.sample(("a.example", "b.example", "*.b.example", "c.b.example"), 2)):
            found.append(fleet.istio("VirtualService", f"edge-{number}", self._service([host], ["gw"])))
        for number in range(rng.randrange(4)):
            namespace = rng.choice(("default", "default", "istio-system"))
            found.append(fleet.istio("AuthorizationPolicy", f"policy-{number}", self._policy(), namespace))
        if rng.random() < 0.5:
            mode = {"mtls": {"mode": rng.choice(("STRICT", "PERMISSIVE", "DISABLE"))}}
            found.append(fleet.istio("PeerAuthentication", "peers", mode))
        if rng.random() < 0.4:
            rule = {"issuer": "i1", "jwks": self._keys, "audiences": rng.choice(([], ["us"]))}
            found.append(fleet.istio("RequestAuthentication", "tokens", {"jwtRules": [rule]}))
        if rng.random() < 0.4:
            found.append(fleet.mesh_config(yaml.safe_dump(self._settings())))
        return found

    def _settings(self) -> dict[str, Any]:
        kinds = ("NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES")
        return {"pathNormalization": {"normalization": self.rng.choice(kinds)}}

    def _service(self, hosts: list[str], gateways: list[str] | None = None) -> dict[str, Any]:
        rules = [self._rule() for _ in range(self.rng.randrange(1, 5))]
        return {"hosts": hosts, "http": rules, **({"gateways": gateways} if gateways else {})}

    def _rule(self) -> dict[str, Any]:
        rng = self.rng
        made: dict[str, Any] = {}
        if rng.random() < 0.8:
            made["match"] = [self._match() for _ in range(rng.choice((1, 1, 2)))]
        action = rng.random()
        if action < 0.15:
            return {**made, "redirect": self._redirect()}
        if action < 0.25:
            return {**made, "directResponse": {"status": rng.choice((200, 404, 503)), "body": {"string": "x"}}}
        made["route"] = self._routes()
        if rng.random() < 0.3:
            made["rewrite"] = self._rewrite()
        if rng.random() < 0.3:
            made["headers"] = {"request": {"set": {"x-b": "set"}, "remove": ["x-a"], "add": {"x-c": "1"}}}
        if rng.random() < 0.1:
            made["fault"] = {"abort": {"httpStatus": 418, "percentage": {"value": rng.choice((0, 100))}}}
        if rng.random() < 0.2:
            made["corsPolicy"] = {"allowOrigins": [{"exact": "http://o"}], "allowMethods": ["GET"]}
        return made

    def _match(self) -> dict[str, Any]:
        rng = self.rng
        made: dict[str, Any] = {}
        if rng.random() < 0.6:
            made["uri"] = self._string(_PATHS, _PREFIXES, _REGEXES)
            made["ignoreUriCase"] = rng.random() < 0.2
        if rng.random() < 0.3:
            made["headers"] = {
                rng.choice(_HEADERS): rng.choice(({}, self._string(_VALUES[:-2], ("j", "1"), _VALUE_REGEXES)))
            }
        if rng.random() < 0.15:
            made["withoutHeaders"] = {rng.choice(_HEADERS): rng.choice(({}, {"exact": "1"}))}
        if rng.random() < 0.2:
            made["method"] = {"exact": rng.choice(_METHODS)}
        if rng.random() < 0.2:
            made["queryParams"] = {"q": self._string(("1", "jason"), ("1",), ("[0-9]+",))}
        if rng.random() < 0.1:
            made["authority"] = self._string(("web", "a.example"), ("web", "b"), (".*example.*",))
        return made

    def _string(self, exact: tuple[str, ...], prefixes: tuple[str, ...], regexes: tuple[str, ...]) -> dict[str, str]:
        kind, values = self.rng.choice((("exact", exact), ("prefix", prefixes), ("regex", regexes)))
        return {kind: self.rng.choice(values)}

    def _routes(self) -> list[dict[str, Any]]:
        rng = self.rng
        kinds = ({"host": "web", "subset": "v1"}, {"host": "web", "subset": "v2"}, {"host": "web", "subset": "v3"})
        places = rng.sample((*kinds, {"host": "shop"}, {"host": "e.example"}, {"host": "ghost"}), rng.choice((1, 1, 2)))
        weights = (100,) if len(places) == 1 else rng.choice(((80, 20), (0, 100), (50, 50)))
        found = []
        for place, weight in zip(places, weights, strict=True):
            one: dict[str, Any] = {"destination": place, "weight": weight}
            if rng.random() < 0.1:
                one["headers"] = {"request": {"set": {"x-d": "weighted"}}}
            found.append(one)
        return found

    def _redirect(self) -> dict[str, Any]:
        rng = self.rng
        kinds = ({"uri": "/new"}, {"authority": "r.example"}, {"scheme": "https"}, {"prefixRewrite": "/p"})
        made: dict[str, Any] = {**rng.choice(kinds), "redirectCode": rng.choice((301, 302, 307))}
        return {**made, "port": 8443} if rng.random() < 0.3 else made

    def _rewrite(self) -> dict[str, Any]:
        regex = {"uriRegexRewrite": {"match": "/(a|v1)(.*)", "rewrite": "/r\\2/\\1"}}
        return self.rng.choice(({"uri": "/new"}, {"uri": "/"}, {"authority": "re.example"}, regex))

    def _policy(self) -> dict[str, Any]:
        rng = self.rng
        action = rng.choice(("ALLOW", "ALLOW", "DENY"))
        rules = [self._allowed() for _ in range(rng.choice((1, 1, 2)))]
        made: dict[str, Any] = {"action": action, "rules": rules}
        return {**made, "selector": {"matchLabels": {"app": "web"}}} if rng.random() < 0.5 else made

    def _allowed(self) -> dict[str, Any]:
        rng = self.rng
        made: dict[str, Any] = {}
        if rng.random() < 0.6:
            source = rng.choice(
                (
                    {"principals": [f"cluster.local/ns/{rng.choice(('default', 'other'))}/sa/shop"]},
                    {"namespaces": ["default"]},
                    {"notPrincipals": ["*/shop"]},
                    {"ipBlocks": [rng.choice(("127.0.0.0/24", "10.1.0.0/24"))]},
                    {"remoteIpBlocks": ["7.7.7.0/24"]},
                    {"requestPrincipals": ["*"]},
                    {"notNamespaces": ["other"]},
                )
            )
            made["from"] = [{"source": source}]
        if rng.random() < 0.7:
            operation = rng.choice(
                (
                    {"paths": [rng.choice(("/a*", "/a", "*/b", "/a/{*}", "/{**}/c"))]},
                    {"methods": ["GET", "POST"]},
                    {"notMethods": ["GET"]},
                    {"hosts": ["web*"]},
                    {"ports": ["8080"]},
                    {"notPaths": ["/v1*"], "methods": ["GET"]},
                )
            )
            made["to"] = [{"operation": operation}]
        if rng.random() < 0.3:
            condition = rng.choice(
                (
                    {"key": "request.headers[x-a]", "values": ["1*"]},
                    {"key": "request.headers[end-user]", "notValues": ["jason"]},
                    {"key": "request.auth.claims[group]", "values": ["admin"]},
                    {"key": "source.namespace", "values": ["default"]},
                )
            )
            made["when"] = [condition]
        return made

    def request(self, moment: float) -> dict[str, Any]:
        """What a client sends: by which way, and the parts of a request."""
        rng = self.rng
        way = rng.choice(("outbound", "inbound", "gateway"))
        headers = {name: rng.choice(_VALUES) for name in _HEADERS if rng.random() < 0.3}
        method = rng.choice(("GET", "GET", *_METHODS))
        if method == "OPTIONS":
            headers |= {"origin": rng.choice(("http://o", "http://p")), "access-control-request-method": "GET"}
        if rng.random() < 0.2:
            headers["x-forwarded-for"] = rng.choice(("7.7.7.7", "1.2.3.4, 7.7.7.7", "nonsense"))
        if rng.random() < 0.35:
            headers["authorization"] = f"Bearer {self._token(moment)}"
        return {
            "way": way,
            "mtls": way == "inbound" and rng.random() < 0.6,
            "account": rng.choice(ACCOUNTS),
            "address": rng.choice(("10.0.0.1", "10.0.0.2", "10.9.9.9")),
            "authority": rng.choice(_GATEWAY_HOSTS if way == "gateway" else _AUTHORITIES),
            "method": method,
            "path": rng.choice((*_PATHS, *_PREFIXES)) + rng.choice(_QUERIES),
            "headers": headers,
        }

    def _token(self, moment: float) -> str:
        claims = {"iss": "i1", "sub": "jason", "aud": "us", "exp": int(moment) + 3600, "group": "admin"}
        changes = ({}, {}, {"iss": "i2"}, {"exp": int(moment) - 3600}, {"aud": "them"}, {"group": ["admin", "b"]})
        token = self._sign({**claims, **self.rng.choice(changes)})
        return token if self.rng.random() < 0.85 else token[:-8] + "AAAAAAAA"
