"""What a running Envoy does with tokens of end users, and which key sets it takes."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import select
import socket
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import jwt as tokens
import pytest
from aiohttp import web
from envoy.config.bootstrap.v3 import bootstrap_pb2

from crds import jwks
from e2e.harness.ports import free_ports
from istiod.envoy import listener
from istiod.mesh import jwt
from istiod.mesh.jwt import Provider
from istiod.mesh.route import ClaimMatch, Destination, DirectResponse, HeaderMatch, MatchKind, RouteMatch, StringMatch
from istiod.mesh.scope import Chain, Cluster, Direction, Discovery, Http, Listener
from tests import envoys
from tests.envoy import made
from tests.envoy.test_running_envoy import running
from tests.jwks.made import Signer, ec_signer, key_set, rsa_signer
from tests.waiting import until

pytestmark = pytest.mark.envoy

RSA, EC, STRANGER = rsa_signer(), ec_signer(), rsa_signer()
KEYS = key_set(RSA, EC)
ISSUER = "https://issuer.example"
PLAIN = Provider(issuer=ISSUER, keys=KEYS)
Headers = Mapping[str, str]


def later(seconds: int) -> int:
    """That many seconds from now: long after this module was read, it may be."""
    return int(time.time()) + seconds


@contextlib.asynccontextmanager
async def app() -> AsyncIterator[int]:
    """A server that answers with the headers and the path that reached it."""

    async def answer(request: web.Request) -> web.Response:
        return web.json_response({**{name.lower(): v for name, v in request.headers.items()}, ":path": request.path_qs})

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


class Front:
    """An Envoy before the app."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self.url = url
        self._http = http

    async def status(self, token: str = "", path: str = "/", **headers: str) -> int:
        return (await self.ask(token, path, **headers))[0]

    async def ask(self, token: str = "", path: str = "/", method: str = "GET", **headers: str) -> tuple[int, Any]:
        if token:
            headers["authorization"] = f"Bearer {token}"
        async with self._http.request(method, self.url + path, headers=headers) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if answer.status == 200 else text


def at(port: int, direction: Direction, http: Http) -> Listener:
    chain = Chain(name="http", http=http)
    return Listener(name="l", address="127.0.0.1", port=port, direction=direction, chains=(chain,))


@contextlib.asynccontextmanager
async def front(folder: Path, *providers: Provider, gateway: bool = False, routes: Any = ()) -> AsyncIterator[Front]:
    async with app() as upstream, aiohttp.ClientSession() as http:
        (port,) = free_ports(1)
        local = made.endpoint("127.0.0.1", port=upstream)
        cluster = Cluster(
            name="app", discovery=Discovery.STATIC, direction=Direction.INBOUND, port=upstream, endpoints=(local,)
        )
        plain = made.route(destinations=made.to(Destination(cluster="app", host="app", port=upstream)))
        table = made.table(made.virtual_host(routes=[*routes, plain], domains=("*",)))
        http_part = Http(stat_prefix="x", inline=table, tokens=tuple(providers))
        direction = Direction.GATEWAY if gateway else Direction.INBOUND
        async with running(folder, made.QUIET, at(port, direction, http_part), cluster):
            found = Front(f"http://127.0.0.1:{port}", http)
            await until(lambda: up(found), "Envoy listens")
            yield found


async def up(found: Front) -> bool:
    try:
        return await found.status() > 0
    except aiohttp.ClientError:
        return False


def unsigned(**claims: Any) -> str:
    said = {"iss": ISSUER, "sub": "alice", "exp": later(3600), **claims}
    return tokens.encode(said, key=None, algorithm="none")  # type: ignore[arg-type]  # what an attacker sends


def confused() -> str:
    """HS256 with the public key as its secret."""
    parts = (json.dumps(one).encode() for one in ({"alg": "HS256", "kid": "r1"}, {"iss": ISSUER, "exp": later(3600)}))
    body = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    secret = base64.urlsafe_b64decode(RSA.public["n"] + "==")
    signed = tokens.get_algorithm_by_name("HS256").sign(body, secret)
    return (body + b"." + base64.urlsafe_b64encode(signed).rstrip(b"=")).decode()


def lured(port: int = 9) -> str:
    """A token that says itself where its keys are."""
    claims = {"iss": ISSUER, "exp": later(3600)}
    more = {"kid": "x", "jku": f"http://127.0.0.1:{port}/keys", "x5u": f"http://127.0.0.1:{port}/keys"}
    return tokens.encode(claims, STRANGER.key, algorithm="RS256", headers=more)


def without_kid(signer: Signer) -> str:
    return tokens.encode({"iss": ISSUER, "sub": "a", "exp": later(60)}, signer.key, algorithm=signer.algorithm)


def renamed(kid: str) -> str:
    return replace(STRANGER, kid=kid).token()


async def test_good_tokens_pass_and_all_others_are_refused(tmp_path: Path) -> None:
    """Row SEC52 of the hostile inputs."""
    good = RSA.token()
    head, body, signature = good.split(".")
    tampered = base64.urlsafe_b64encode(json.dumps({"iss": ISSUER, "exp": later(3600)}).encode()).rstrip(b"=").decode()
    expected = {
        "": 200,
        good: 200,
        EC.token(): 200,
        without_kid(RSA): 200,
        without_kid(EC): 200,
        RSA.token(aud=["a", "b"]): 200,
        RSA.token(aud=None): 200,
        RSA.token(exp=None): 200,
        RSA.token(exp=later(-30)): 200,  # within the minute that clocks may differ
        RSA.token(exp=later(-120)): 401,
        RSA.token(nbf=later(3600)): 401,
        RSA.token(iss="https://other.example"): 401,
        RSA.token(iss=ISSUER.upper()): 401,
        RSA.token(iss=None): 401,
        unsigned(): 401,
        confused(): 401,
        lured(): 401,
        renamed("r1"): 401,
        renamed("../../etc/passwd"): 401,
        without_kid(STRANGER): 401,
        f"{head}.{tampered}.{signature}": 401,
        f"{head}.{body}.": 401,
        f"{head}.{body}": 401,
        "junk": 401,
        "..": 401,
        RSA.token(blob="x" * 20_000): 200,
    }
    async with front(tmp_path, PLAIN) as envoy:
        given = {token: await envoy.status(token) for token in expected}
        assert given == expected
        assert await envoy.status(RSA.token(blob="x" * 100_000)) in (401, 431)
        nested: Any = 1
        for _ in range(200):
            nested = [nested]
        assert await envoy.status(RSA.token(deep=nested)) in (200, 401)
        with socket.create_server(("127.0.0.1", 0)) as keys:
            assert await envoy.status(lured(keys.getsockname()[1])) == 401
            assert select.select([keys], [], [], 0)[0] == [], "nobody comes for them"
        assert await envoy.status(good) == 200


async def test_a_token_for_others_is_no_token_for_us(tmp_path: Path) -> None:
    async with front(tmp_path, replace(PLAIN, audiences=("shop", "shop.example"))) as envoy:
        assert await envoy.status(RSA.token()) == 200
        assert await envoy.status(RSA.token(aud=["x", "shop.example"])) == 200
        assert await envoy.status(RSA.token(aud="bank")) == 403
        assert await envoy.status(RSA.token(aud=None)) == 403


async def test_tokens_are_looked_for_where_the_rule_says_and_each_must_be_good(tmp_path: Path) -> None:
    good, bad = RSA.token(), STRANGER.token()
    places = replace(PLAIN, headers=(("x-token", "JWT "),), params=("t",), cookies=("session",))
    async with front(tmp_path, places) as envoy:
        assert await envoy.status(bad) == 200  # Authorization is not looked at
        assert await envoy.status(**{"x-token": f"JWT {good}"}) == 200
        assert await envoy.status(**{"x-token": f"JWT {bad}"}) == 401
        assert await envoy.status(path=f"/?t={good}") == 200
        assert await envoy.status(path=f"/?t={bad}") == 401
        assert await envoy.status(cookie=f"a=b; session={good}") == 200
        assert await envoy.status(cookie=f"session={bad}") == 401
        # of several tokens the bad one does not hide behind the good one
        assert await envoy.status(path=f"/?t={bad}", **{"x-token": f"JWT {good}"}) == 401
        _, seen = await envoy.ask(path=f"/?a=1&t={good}", cookie=f"session={good}", **{"x-token": f"JWT {good}"})
        assert "x-token" not in seen
        assert good not in seen[":path"]


async def test_the_app_gets_the_claims_and_the_token_only_where_it_is_asked_for(tmp_path: Path) -> None:
    told = replace(PLAIN, payload_header="x-payload", claim_headers=(("x-user", "sub"), ("x-realm", "realm.role")))
    token = RSA.token(realm={"role": "r1"})
    forged = {"x-payload": "forged", "x-user": "root", "x-realm": "forged"}
    async with front(tmp_path, told) as envoy:
        _, seen = await envoy.ask(token, **forged)
        payload = json.loads(base64.urlsafe_b64decode(seen["x-payload"] + "=="))
        assert payload["sub"] == "alice"
        assert (seen["x-user"], seen["x-realm"]) == ("alice", "r1")
        assert "authorization" not in seen
        _, seen = await envoy.ask("", **forged)
        assert not forged.keys() & seen.keys()
    kept = tmp_path / "kept"
    kept.mkdir()
    async with front(kept, replace(PLAIN, forward=True)) as envoy:
        _, seen = await envoy.ask(token)
        assert seen["authorization"] == f"Bearer {token}"


async def test_of_several_issuers_each_token_is_good_for_its_own(tmp_path: Path) -> None:
    second = Provider(issuer="https://second.example", keys=key_set(STRANGER))
    async with front(tmp_path, PLAIN, second) as envoy:
        assert await envoy.status() == 200
        assert await envoy.status(RSA.token()) == 200
        assert await envoy.status(STRANGER.token(iss="https://second.example")) == 200
        assert await envoy.status(STRANGER.token()) == 401
        assert await envoy.status(RSA.token(iss="https://second.example")) == 401
        assert await envoy.status(RSA.token(iss="https://third.example")) == 401


async def test_a_required_token_must_be_there_but_for_preflight_requests(tmp_path: Path) -> None:
    """Row SEC52 of the hostile inputs."""
    async with front(tmp_path, replace(PLAIN, required=True)) as envoy:
        assert await envoy.status() == 401
        assert await envoy.status(RSA.token()) == 200
        preflight = {"origin": "https://x.example", "access-control-request-method": "GET"}
        assert (await envoy.ask(method="OPTIONS", **preflight))[0] == 200
    both = tmp_path / "both"
    both.mkdir()
    second = Provider(issuer="https://second.example", keys=key_set(STRANGER))
    async with front(both, replace(PLAIN, required=True), second) as envoy:
        assert await envoy.status() == 401
        assert await envoy.status(RSA.token()) == 200
        assert await envoy.status(STRANGER.token(iss="https://second.example")) == 200
        assert await envoy.status(STRANGER.token()) == 401


async def test_beside_an_object_that_cannot_be_read_only_tokens_of_others_are_good(tmp_path: Path) -> None:
    """What stands for it has no issuer, and a key that nobody has (SEC52)."""
    unread = Provider(issuer="", keys=jwt.NOBODYS)
    async with front(tmp_path, unread) as envoy:
        assert await envoy.status() == 200
        for token in (RSA.token(), RSA.token(iss=None), STRANGER.token(iss="x"), unsigned()):
            assert await envoy.status(token) == 401
    both = tmp_path / "both"
    both.mkdir()
    async with front(both, unread, PLAIN) as envoy:
        assert await envoy.status() == 200
        assert await envoy.status(RSA.token()) == 200
        assert await envoy.status(STRANGER.token()) == 401


async def test_where_keys_are_missing_every_token_is_refused(tmp_path: Path) -> None:
    async with front(tmp_path, replace(PLAIN, keys=jwt.NOBODYS)) as envoy:
        assert await envoy.status() == 200
        for token in (RSA.token(), EC.token(), without_kid(RSA), unsigned()):
            assert await envoy.status(token) == 401


def test_nobody_can_find_the_private_part_of_the_key_that_stands_for_missing_ones() -> None:
    """Row SEC53 of the hostile inputs."""
    (key,) = jwks.read(jwt.NOBODYS)
    modulus = int.from_bytes(base64.urlsafe_b64decode(key["n"] + "=="), "big")
    assert modulus.bit_length() == 2048
    assert all(modulus % small for small in range(2, 20_000))
    assert jwks.usable(jwt.NOBODYS)


def claimed(name: tuple[str, ...], match: StringMatch, status: int, *, invert: bool = False) -> Any:
    condition = RouteMatch(claims=(ClaimMatch(path=name, match=match, invert=invert),))
    return made.route(match=condition, direct_response=DirectResponse(status=status, body=b""))


async def test_a_gateway_routes_by_claims_of_good_tokens_and_never_by_what_a_client_says(tmp_path: Path) -> None:
    admin = StringMatch(kind=MatchKind.EXACT, value="admin")
    routes = (
        claimed(("group",), admin, 210),
        claimed(("realm", "role"), StringMatch(kind=MatchKind.PREFIX, value="r"), 211),
        claimed(("beta",), StringMatch(kind=MatchKind.PRESENT), 212),
        made.route(
            match=RouteMatch(headers=(HeaderMatch(name="x-never", match=admin),)),
            direct_response=DirectResponse(status=213, body=b""),
        ),
        claimed(("group",), StringMatch(kind=MatchKind.EXACT, value="guest"), 214, invert=True),
    )
    async with front(tmp_path, PLAIN, gateway=True, routes=routes) as envoy:
        asked = {
            210: {"group": "admin"},
            211: {"realm": {"role": "r2"}},
            212: {"beta": "yes"},
            214: {"group": "x"},
            200: {"group": "guest"},
        }
        assert {status: await envoy.status(RSA.token(**claims)) for status, claims in asked.items()} == {
            status: status for status in asked
        }
        assert await envoy.status(RSA.token(group=["user", "admin"])) == 210
        assert await envoy.status(RSA.token(scope="a admin")) == 214
        assert await envoy.status() == 214
        assert await envoy.status(STRANGER.token(group="admin")) == 401
        assert await envoy.status(unsigned(group="admin")) == 401
        for name in ("request.auth.claims.group", "x-request.auth.claims.group", "x-jwt-payload", "payload"):
            assert await envoy.status(**{name: "admin"}) == 214
        raw = await _raw(envoy, b"@request.auth.claims.group: admin\r\n")
        assert b" 214 " in raw or b" 400 " in raw


async def _raw(envoy: Front, header: bytes) -> bytes:
    """The status line for a header that aiohttp would not send."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(envoy.url.rpartition(":")[2]))
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n" + header + b"\r\n")
    line = await reader.readline()
    writer.close()
    return line


def sets() -> list[str]:
    """Key sets that are taken, with what an issuer may write beside keys that can be used."""
    good = RSA.public
    odd: list[Any] = [1, None, {"kty": "X"}, {**good, "n": "abc"}, {**good, "alg": 1}, {"kty": "oct", "k": ""}]
    okp = {"kty": "OKP", "crv": "Ed25519", "x": base64.urlsafe_b64encode(b"\1" * 32).rstrip(b"=").decode()}
    oct_ = {"kty": "oct", "k": "c2VjcmV0"}
    return [
        json.dumps({"keys": keys, "more": [[[1]]], "e": 1e30})
        for keys in (
            [good, *odd],
            [EC.public],
            [okp, {**okp, "alg": "EdDSA"}],
            [oct_, {**oct_, "alg": "HS512"}],
            [{**good, "use": "enc", "key_ops": ["sign"], "x5c": ["junk"], "d": "AAAA"}],
            [{**good, "alg": ""}, {**good, "alg": "PS256"}, {**good, "alg": "RS999"}, {**good, "e": "Aw"}],
        )
    ]


async def test_envoy_takes_every_key_set_that_we_take(tmp_path: Path) -> None:
    providers = tuple(
        Provider(issuer=f"https://{number}.example", keys=keys)
        for number, text in enumerate(sets())
        for keys in (text, jwks.usable(text))
    )
    config = bootstrap_pb2.Bootstrap()
    table = made.table(made.virtual_host(routes=[made.route(direct_response=DirectResponse(status=200, body=b""))]))
    wanted = at(0, Direction.INBOUND, Http(stat_prefix="x", inline=table, tokens=providers))
    config.static_resources.listeners.append(listener.message(wanted, made.QUIET))
    path = tmp_path / "bootstrap.pb"
    path.write_bytes(config.SerializeToString())
    process = await asyncio.create_subprocess_exec(
        envoys.binary(), "--mode", "validate", "-c", str(path), stderr=asyncio.subprocess.PIPE
    )
    _, said = await process.communicate()
    assert process.returncode == 0, said.decode()[-500:]
