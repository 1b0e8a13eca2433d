"""Documents made from the models by chance: mostly what somebody might write, here and there something odd.

Values come from the field's type and, where a plain type says too little, from its name. What fields say together is
left to rules.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Literal, Union, get_args, get_origin

import annotated_types

from crds.meta import Model

Document = dict[str, Any]
Rule = Callable[["Maker", Document], Document]
"""Makes one consistent document of what was drawn field by field."""

_HOSTS = (
    *("web", "web", "shop", "web.default.svc.cluster.local", "db.other.svc.cluster.local", "e.example", "a.w.example"),
    *("*.w.example", "x.example", "dns.example", "ghost", "*", "*.default.svc.cluster.local", "WEB", "e.example."),
)
_NAMES = ("http", "tcp", "v1", "v2", "a", "b-c", "gw")
PATHS = ("/", "/a", "/a/b", "/a%20b", "/Ü", "/%2e", "/a//b", "/a?b", "/*")
_HEADERS = ("x-a", "x-b", "X-C", ":authority", "cookie", "host", "content-type", "user-agent", "x-envoy-retry-on")
_VALUES = ("v", "", "a b", "%REQ(x-a)%", "100%", "%DOWNSTREAM_REMOTE_ADDRESS%", "a,b", "*", "é")
REGEXES = ("a+", ".*", "/a(b|c)", "^$", "(?i)x", "[a-z]{1,3}", "(a+)+$", "\\d", "/v(.*)/x")
ODD_TEXTS = (
    *("", " ", "a b", "a\nb", "a\rb", "a\x00b", "é", "\u2028", "a" * 3000, "%", "%BAD%", "%REQ(", ":path", "Host"),
    *("*", "*.b.c", "*b.c", "a.b.", "A.B", "x:y", "1.2.3.4", "::1", "10.0.0.0/33", "/", "//", "?a", "\\9", "(", "{a}"),
)
ODD_NUMBERS = (0, 1, -1, 99, 101, 599, 65535, 65536, 8388609, 2**31, 2**32 - 1, 2**32, 2**63)
ODD_DURATIONS = ("0s", "1ns", "0.5ms", "-1s", "49h", "3000000000s", "400000000000s", "x")
_DURATIONS = ("1ms", "0.5s", "1s", "5s", "1m", "1h")
PORTS = (80, 80, 81, 443, 8080, 9000, 15443)

TEXTS: Mapping[str, tuple[str, ...]] = {
    "host": _HOSTS,
    "authority": ("x.example", "web", "web:80", "%REQ(:authority)%"),
    "subset": ("", "v1", "v2", "v3", "ghost"),
    "gateways": ("mesh", "gw", "default/gw", "other/gw", "generated-gateway-0"),
    "export_to": (".", "*", "~", "other"),
    "uri": PATHS,
    "prefix_rewrite": PATHS,
    "path": PATHS,
    "source_namespace": ("default", "other", ""),
    "retry_on": ("5xx", "gateway-error,connect-failure", "503", "retriable-status-codes,500", "nonsense", "reset"),
    "grpc_status": ("UNAVAILABLE", "14", "NOT_FOUND"),
    "destination_subnets": ("10.0.0.0/8", "10.0.0.1", "::/0", "0.0.0.0/0"),
    "sni_hosts": ("e.example", "*.w.example", "x.example", "web.default.svc.cluster.local"),
    "bind": ("", "0.0.0.0", "127.0.0.1", "10.1.0.1", "::"),
    "addresses": ("10.9.0.1", "10.9.0.0/16", "10.9.0.2", "2001:db8::1"),
    "locality": ("r1/za/s1", "r1/zb", "r2", ""),
    "failover_priority": ("topology.kubernetes.io/region", "app", "version=v1"),
    "from": ("r1", "r1/za", "r2/*", "*"),
    "target_host": ("e.example", "10.9.0.9", "::1"),
    "protocol": ("HTTP", "HTTP", "HTTP2", "GRPC", "HTTPS", "TLS", "TCP", "MONGO", "UDP"),
    "methods": ("GET", "POST", "*"),
    "allow_methods": ("GET", "POST", "*"),
    "scheme": ("http", "https"),
    "allow_origin": ("*", "http://x.example"),
    "sni": ("e.example", "a.b"),
    "subject_alt_names": ("spiffe://cluster.local/ns/default/sa/web", "a.b"),
    "verify_certificate_spki": ("NvqYIYSbgK2vCJpQhObf77vv+bQWtc5ek5RIOwPiC9A=",),
    "verify_certificate_hash": ("a" * 64, ":".join(["AB"] * 32)),
    "cipher_suites": ("ECDHE-ECDSA-AES128-GCM-SHA256", "AES256-SHA", "NULL"),
    "credential_name": ("secret", "kubernetes://secret", "ghost"),
    "default_endpoint": ("127.0.0.1:8080", "0.0.0.0:9000", "unix:///tmp/s", "[::1]:80"),
    "regex": REGEXES,
    "http_header_name": _HEADERS,
    "bytes": ("YQ==", "", "!"),
    "network": ("", "n2"),
    "service_account": ("default",),
}
_KEYS: Mapping[str, tuple[str, ...]] = {
    "headers": _HEADERS,
    "without_headers": _HEADERS,
    "set": _HEADERS,
    "add": _HEADERS,
    "query_params": ("q", "a b", "ü"),
    "labels": ("app", "version"),
    "match_labels": ("app", "version"),
    "source_labels": ("app", "version"),
    "selector": ("app",),
    "to": ("r1/za/*", "r2/*", "r1/*"),
    "ports": ("http", "tcp"),
}
_LABELS = ("web", "gw", "v1", "v2", "shop")
_NUMBERS: Mapping[str, tuple[int, ...]] = {
    "weight": (0, 1, 50, 99, 100),
    "status": (200, 204, 302, 404, 503, 599),
    "http_status": (400, 503, 200),
    "http_error_codes": (404, 429, 500, 503),
    "redirect_code": (301, 302, 303, 307, 308),
    "table_size": (101, 65537),
    "mirror_percent": (0, 50, 100),
    "percent": (0, 50, 100),
    "max_ejection_percent": (0, 10, 100),
    "min_health_percent": (0, 50),
}

_COUNTS = (0, 1, 1, 2)
"""How many items a list may have."""


class Maker:
    """Makes documents of models. ``full``: how likely an optional field is said; ``odd``: how likely a leaf is odd."""

    def __init__(
        self,
        seed: int,
        rules: Mapping[type[Model], Rule],
        needed: Mapping[type[Model], tuple[str, ...]],
        *,
        full: float,
        odd: float,
    ) -> None:
        self.random = random.Random(seed)
        self._rules = rules
        self._needed = needed
        self._full = full
        self._odd = odd

    def chance(self, likely: float) -> bool:
        return self.random.random() < likely

    def model(self, kind: type[Model]) -> Document:
        """A document of a model, whose exclusive fields have been chosen among."""
        made: Document = {}
        needed = self._needed.get(kind, ())
        for name, field in kind.model_fields.items():
            if name in needed or self.chance(self._full):
                counts = _COUNTS[1:] if name in needed else _COUNTS
                value = self._value(field.annotation, (*field.metadata,), name, counts)
                if value is not None:
                    made[field.alias or name] = value
        rule = self._rules.get(kind)
        return rule(self, made) if rule else made

    def _value(self, annotation: Any, metadata: tuple[Any, ...], name: str, counts: tuple[int, ...] = _COUNTS) -> Any:
        origin, inner = get_origin(annotation), get_args(annotation)
        if origin in (tuple, Mapping):
            return self._several(origin, inner, name, counts)
        if origin is Literal:
            return self.random.choice(inner)
        if origin in (Union, type(int | None)):
            return self._value(self.random.choice([each for each in inner if each is not type(None)]), metadata, name)
        if hasattr(annotation, "__metadata__"):
            return self._value(annotation.__origin__, (*metadata, *annotation.__metadata__), name)
        if isinstance(annotation, type) and issubclass(annotation, Model):
            return self.model(annotation)
        return self._leaf(annotation, metadata, name)

    def _several(self, origin: Any, inner: tuple[Any, ...], name: str, counts: tuple[int, ...]) -> Any:
        if origin is Mapping:
            return self._mapping(inner, name)
        return [self._value(inner[0], (), name) for _ in range(self.random.choice(counts))]

    def _mapping(self, inner: tuple[Any, ...], name: str) -> Document | None:
        if inner[1] is Any:
            return {"a": "b"}
        odd = self.chance(self._odd)
        if inner[0] is not str:
            return {str(self.random.choice(PORTS)): self._value(inner[1], (), name)}
        keys = ODD_TEXTS if odd else _KEYS.get(name, _HEADERS)
        return {
            self.random.choice(keys): self._value(inner[1], (), f"{name} of")
            for _ in range(self.random.choice((1, 1, 2)))
        }

    def _leaf(self, annotation: Any, metadata: tuple[Any, ...], name: str) -> Any:
        odd = self.chance(self._odd)
        if annotation is bool:
            return self.chance(0.5)
        if annotation is timedelta:
            return self.random.choice(ODD_DURATIONS if odd else _DURATIONS)
        if annotation is float:
            return self.random.choice((-1.0, 1e-9, 100.1, 1e300) if odd else (0.0, 1.0, 50.5, 100.0))
        if annotation is int:
            return self._number(metadata, name, odd=odd)
        if annotation is str:
            return self._text(name, odd=odd)
        return 1 if annotation is Any else None

    def _number(self, metadata: tuple[Any, ...], name: str, *, odd: bool) -> int:
        bound = next((each.le for each in metadata if isinstance(each, annotated_types.Le)), None)
        if odd:
            return self.random.choice(ODD_NUMBERS)
        if "port" in name or name == "number":
            return self.random.choice(PORTS)
        found = self.random.choice(_NUMBERS.get(name, (0, 1, 5, 100, 1024)))
        return found if bound is None else min(found, int(bound))

    def _text(self, name: str, *, odd: bool) -> str:
        if odd:
            return self.random.choice(ODD_TEXTS)
        if name.endswith("labels of") or name == "selector of":
            return self.random.choice(_LABELS)
        if name in ("set of", "add of"):
            return self.random.choice(_VALUES)
        if name == "hosts":
            return self.random.choice(_HOSTS)
        if name.endswith(("certificate", "_key", "certificates", "_crl")):
            return f"/etc/{name}.pem"
        return self.random.choice(TEXTS.get(name, _NAMES))

    def one(self, made: Document, *names: str, least: int = 1) -> Document:
        """Of the fields that exclude each other one, or none where ``least`` is 0."""
        said = [name for name in names if name in made]
        kept = self.random.choice(said) if said else ""
        return {
            name: value for name, value in made.items() if name not in names or (name == kept and said[least - 1 :])
        }
