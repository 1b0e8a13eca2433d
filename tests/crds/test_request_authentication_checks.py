"""Each row: a spec in YAML, and the fields that are found fault with; "?" marks a warning."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from crds import jwks, text
from crds.diagnostic import Severity
from crds.parse import Parsed, parse
from crds.request_authentication import RequestAuthentication


def number(value: int, length: int = 0) -> str:
    raw = value.to_bytes(length or (value.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


N = rsa.generate_private_key(65537, 2048).public_key().public_numbers().n
POINT = ec.generate_private_key(ec.SECP256R1()).public_key().public_numbers()
RSA = {"kty": "RSA", "n": number(N), "e": "AQAB"}
EC = {"kty": "EC", "crv": "P-256", "x": number(POINT.x, 32), "y": number(POINT.y, 32)}
OKP = {"kty": "OKP", "crv": "Ed25519", "x": number(1, 32)}
OCT = {"kty": "oct", "k": "c2VjcmV0"}


def keys(*several: object, **more: object) -> str:
    return json.dumps({"keys": several, **more})


def parsed(spec: str, **metadata: Any) -> Parsed:
    return parse(
        {
            "apiVersion": "security.istio.io/v1",
            "kind": "RequestAuthentication",
            "metadata": {"name": "a", "namespace": "ns", **metadata},
            "spec": text.load(spec),
        }
    )


def found(result: Parsed) -> list[str]:
    marks = {Severity.ERROR: "", Severity.WARNING: "?"}
    return [marks[finding.severity] + finding.field for finding in result.diagnostics]


RULES = [
    ("issuer: a, jwksUri: 'https://a.example/keys'", []),
    ("issuer: a", []),
    ("jwksUri: 'http://a.example:8080/keys?x=1'", []),
    ("issuer: a, jwks_uri: 'http://a.example/'", []),
    ("", ["issuer"]),
    ("issuer: ''", ["issuer"]),
    ("issuer: '', jwksUri: 'https://a.example'", ["issuer"]),
    ("issuer: a, jwksUri: ''", ["jwksUri"]),
    ("issuer: a, jwksUri: a.example", ["jwksUri"]),
    ("issuer: a, jwksUri: 'ftp://a.example'", ["jwksUri"]),
    ("issuer: a, jwksUri: 'https://'", ["jwksUri"]),
    ("issuer: a, jwksUri: 'https://a.example:0'", ["jwksUri"]),
    ("issuer: a, jwksUri: 'https://a.example:99999'", ["jwksUri"]),
    ("issuer: a, jwksUri: 'https://[::1'", ["jwksUri"]),
    ("issuer: a, jwksUri: 'https://a b'", ["jwksUri"]),
    (f"issuer: a, jwksUri: 'https://a.example', jwks: '{keys(RSA)}'", [""]),
    (f"issuer: a, jwks: '{keys(RSA)}'", []),
    ("issuer: a, jwks: '{}'".format(keys({**RSA, "d": "AAAA"})), ["?jwks"]),
    ("issuer: a, jwks: foo", ["jwks"]),
    ("issuer: a, audiences: [x, '']", ["audiences[1]"]),
    ("issuer: a, fromParams: ['']", ["fromParams[0]"]),
    ("issuer: a, fromCookies: ['']", ["fromCookies[0]"]),
    ('issuer: a, fromCookies: ["a\\nb"]', ["fromCookies[0]"]),
    ("issuer: a, fromHeaders: [{name: x-a, prefix: 'Bearer '}]", []),
    ("issuer: a, fromHeaders: [{prefix: a}]", ["fromHeaders[0].name"]),
    ("issuer: a, fromHeaders: [{name: 'a b'}]", ["fromHeaders[0].name"]),
    ('issuer: a, fromHeaders: [{name: a, prefix: "a\\nb"}]', ["fromHeaders[0].prefix"]),
    ("issuer: a, outputPayloadToHeader: x-a", []),
    ("issuer: a, outputPayloadToHeader: 'a:b'", ["outputPayloadToHeader"]),
    ("issuer: a, outputClaimToHeaders: [{header: x-a, claim: a.b}]", []),
    ("issuer: a, outputClaimToHeaders: [{header: 'a%b', claim: a}]", ["outputClaimToHeaders[0].header"]),
    ("issuer: a, outputClaimToHeaders: [{header: a}]", ["outputClaimToHeaders[0].claim"]),
    ("issuer: a, spaceDelimitedClaims: [a]", []),
    ("issuer: a, spaceDelimitedClaims: ['']", ["spaceDelimitedClaims[0]"]),
    ("issuer: a, spaceDelimitedClaims: [{}]".format(", ".join("a" * 65)), ["spaceDelimitedClaims"]),
    ("issuer: a, presence: REQUIRED, timeout: 1s", []),
    ("issuer: a, presence: MANDATORY", ["presence"]),
    ("issuer: a, timeout: 0s", ["timeout"]),
    ("issuer: a, nonsense: 1", ["?nonsense"]),
]


@pytest.mark.parametrize(("rule", "fields"), RULES)
def test_one_rule(rule: str, fields: list[str]) -> None:
    expected = [f"?spec.jwtRules[0].{f[1:]}" if f[:1] == "?" else f"spec.jwtRules[0].{f}".rstrip(".") for f in fields]
    assert found(parsed(f"{{jwtRules: [{{{rule}}}]}}")) == expected


def test_both_spellings_of_the_address_of_keys_are_read() -> None:
    for name in ("jwksUri", "jwks_uri"):
        item = parsed(f"{{jwtRules: [{{issuer: a, {name}: 'https://a.example'}}]}}").object
        assert isinstance(item, RequestAuthentication)
        assert item.spec.jwt_rules[0].jwks_uri == "https://a.example"


SPECS = [
    ("{}", []),
    ("{selector: {matchLabels: {app: a, version: ''}}}", []),
    ("{selector: {matchLabels: {'': a}}}", ['spec.selector.matchLabels[""]']),
    ("{selector: {matchLabels: {app: 'a*'}}}", ["spec.selector.matchLabels.app"]),
    ("{targetRef: {kind: Service, name: a}}", []),
    ("{targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: a}]}", []),
    ("{targetRef: {kind: Pod, name: a}}", ["spec.targetRef"]),
    ("{targetRef: {kind: Service}}", ["spec.targetRef.name"]),
    ("{targetRefs: [{kind: Service, name: a, namespace: b}]}", ["spec.targetRefs[0].namespace"]),
    ("{selector: {}, targetRef: {kind: Service, name: a}}", ["spec"]),
    ("{{targetRefs: [{}]}}".format(", ".join(["{kind: Service, name: a}"] * 17)), ["spec.targetRefs"]),
    ("{{jwtRules: [{}]}}".format(", ".join(["{issuer: a}"] * 4097)), ["spec.jwtRules"]),
    ("{jwtRules: [null]}", ["spec.jwtRules[0]"]),
]


@pytest.mark.parametrize(("spec", "fields"), SPECS, ids=range(len(SPECS)))
def test_the_whole_object(spec: str, fields: list[str]) -> None:
    assert found(parsed(spec)) == fields


def test_a_dry_run_is_not_for_this_kind() -> None:
    assert found(parsed("{}", annotations={"istio.io/dry-run": "true"})) == ["metadata.annotations"]


@pytest.mark.parametrize(
    "said",
    [
        "",
        "foo",
        "[]",
        "{}",
        '{"keys": {}}',
        keys(),
        keys(1, None),
        keys(*([RSA] * 513)),
        f'{{"keys": [], "keys": [{json.dumps(RSA)}]}}',
        keys(RSA, more=float("nan")),
        f'{{"keys": [{json.dumps(RSA)}], "x": 1e999}}',
        f'{{"keys": [{json.dumps(RSA)}], "x": "\\ud800"}}',
        '{{"keys": [{}], "x": {}}}'.format(json.dumps(RSA), "[" * 40 + "]" * 40),
        '{{"keys": [{}], "x": {}}}'.format(json.dumps(RSA), "[" * 100_000),
        keys(RSA, pad="x" * jwks.LARGEST),
        keys({**RSA, "kty": "X"}, {"n": RSA["n"], "e": "AQAB"}),
        keys({**RSA, "n": "abc"}, {**RSA, "n": "!"}, {**RSA, "n": "A"}, {**RSA, "n": 1}, {"kty": "RSA", "e": "AQAB"}),
        keys({**RSA, "n": number(N + 1)}, {**RSA, "n": number(1 << 9000 | 1)}, {**RSA, "n": number(1 << 511 | 1)}),
        keys({**RSA, "e": "AQ"}, {**RSA, "e": "BA"}, {**RSA, "e": number(1 << 40 | 1)}),
        keys({**RSA, "alg": "ES256"}, {**RSA, "alg": 1}, {**RSA, "kid": 1}),
        keys({**EC, "x": number(1, 32)}, {**EC, "crv": "P-999"}, {**EC, "alg": "ES384"}, {**EC, "x": number(1, 40)}),
        keys({**OKP, "crv": "X25519"}, {**OKP, "x": "AAAA"}, {**OKP, "alg": "RS256"}),
        keys({**OCT, "k": ""}, {**OCT, "alg": "RS256"}),
    ],
    ids=range(23),
)
def test_what_envoy_could_not_use_is_no_key_set(said: str) -> None:
    with pytest.raises(jwks.KeySetError):
        jwks.usable(said)


def test_a_key_set_is_written_the_same_way_whatever_stands_beside_its_keys() -> None:
    private = {**RSA, "kid": "a", "alg": "RS256", "use": "sig", "x5c": ["junk"], "d": "AAAA"}
    one = jwks.usable(keys(private, EC, {"kty": "X"}, 1))
    assert one == jwks.usable(keys(EC, {**RSA, "alg": "RS256", "kid": "a"}, EC, issued="today"))
    assert json.loads(one)["keys"] == [
        {"alg": "RS256", "e": "AQAB", "kid": "a", "kty": "RSA", "n": RSA["n"]},
        {**EC},
    ]
    assert jwks.usable(one) == one
    for other in (
        OKP,
        OCT,
        {**OKP, "alg": "EdDSA"},
        {**OCT, "alg": "HS256"},
        {**EC, "alg": "ES256"},
        {**RSA, "alg": ""},
    ):
        assert jwks.usable(keys(other))


@pytest.mark.parametrize(("key", "private"), [(RSA, False), ({**RSA, "p": "A"}, True), ({**EC, "d": "A"}, True)])
def test_a_private_part_is_noticed(key: dict[str, str], private: bool) -> None:  # noqa: FBT001 (a table)
    assert jwks.has_private(jwks.read(keys(key, OCT))) is private


@pytest.mark.parametrize(
    "dense",
    [
        '{"keys":[' + ("[" * 20 + "]" * 20 + ",") * 20_000 + "1]}",
        '{"keys":[{"a":[' + "0," * 400_000 + "1]}]}",
        '{"keys":[' + ",".join(f'{{"a":{"9" * 4_000}}}' for _ in range(250)) + "]}",
    ],
    ids=["deep", "wide", "numbers"],
)
def test_no_text_takes_long_to_read(dense: str) -> None:
    assert len(dense) < jwks.LARGEST
    began = time.process_time()
    with pytest.raises(jwks.KeySetError, match=r"no JSON|far more"):
        jwks.read(dense)
    assert time.process_time() - began < 0.1


def test_as_many_keys_as_there_may_be_are_no_more_than_can_be_read() -> None:
    chains = {name: ["A" * 100] * 10 for name in ("x5c", "x5t", "key_ops")}
    assert len(jwks.read(keys(*[{**RSA, "kid": str(number), "use": "sig"} for number in range(jwks.MOST_KEYS)]))) == 512
    assert len(jwks.read(keys(*[{**RSA, **chains, "kid": str(number)} for number in range(256)]))) == 256
