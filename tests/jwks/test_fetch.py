"""Fetches over real HTTP, from a server on loopback, which only a guard that is told so lets through."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta

import pytest
from aiohttp import web

from crds import jwks
from istiod.config.key_sets import KeySource
from istiod.jwks.fetch import Fetcher, FetchError
from istiod.jwks.guard import Guard
from tests.jwks import made

SIGNER = made.ec_signer()
KEYS = made.key_set(SIGNER)
LOCAL = Guard(allowed=("127.0.0.0/8", "::1/128"))
NO_ROOTS = pathlib.Path("/nonexistent")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@contextlib.asynccontextmanager
async def server(handler: Handler) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


async def fetch(uri: str, guard: Guard = LOCAL, issuer: str = "", seconds: float = 5) -> str:
    fetcher = Fetcher(guard, lambda _: frozenset(), NO_ROOTS)
    return await fetcher.fetch(KeySource(uri=uri, issuer=issuer), timedelta(seconds=seconds))


async def keys(_: web.Request) -> web.Response:
    return web.Response(text=KEYS)


async def test_a_key_set_comes_with_the_keys_that_envoy_can_use() -> None:
    async with server(keys) as url:
        assert await fetch(f"{url}/keys") == jwks.usable(KEYS)


async def test_an_issuer_without_a_uri_says_itself_where_its_keys_are() -> None:
    async def page(request: web.Request) -> web.Response:
        if request.path == "/realm/.well-known/openid-configuration":
            return web.json_response({"jwks_uri": f"http://{request.host}/keys"})
        return web.Response(text=KEYS)

    async with server(page) as url:
        assert await fetch("", issuer=f"{url}/realm/") == jwks.usable(KEYS)


@pytest.mark.parametrize(
    "body", ["[]", "{}", '{"jwks_uri": ""}', '{"jwks_uri": 1}', "junk", "[" * 20_000, "[" * 200_000]
)
async def test_a_page_of_an_issuer_that_names_no_keys_is_a_failure(body: str) -> None:
    async def page(_: web.Request) -> web.Response:
        return web.Response(text=body)

    async with server(page) as url:
        with pytest.raises(FetchError):
            await fetch("", issuer=url)


async def test_an_issuers_page_may_not_lead_to_a_blocked_address() -> None:
    async def page(_: web.Request) -> web.Response:
        return web.json_response({"jwks_uri": "http://169.254.169.254/latest"})

    async with server(page) as url:
        with pytest.raises(FetchError, match="private, local or blocked"):
            await fetch("", issuer=url)


@pytest.mark.parametrize(
    "uri",
    [
        "http://127.0.0.1:{port}/",
        "http://127.0.0.1.:{port}/",
        "http://[::1]:{port}/",
        "http://localhost:{port}/",
        "http://2130706433:{port}/",
        "http://0x7f000001:{port}/",
        "http://127.1:{port}/",
        "http://017700000001:{port}/",
        "http://012.0.0.1:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://0.0.0.0:{port}/",
        "http://user@127.0.0.1:{port}/",
        "http://127.0.0.1%2e:{port}/",
        "http://\uff11\uff12\uff17.0.0.1:{port}/",
    ],
)
async def test_nothing_local_is_asked_however_it_is_written(uri: str) -> None:
    asked: list[str] = []

    async def note(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(text=KEYS)

    async with server(note) as url:
        with pytest.raises(FetchError):
            await fetch(uri.format(port=url.rpartition(":")[2]), Guard())
    assert asked == []


async def test_a_name_that_means_something_else_when_it_is_resolved_again_gains_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Row SEC54 of the hostile inputs."""
    asked: list[str] = []
    answers = iter(["8.8.8.8", "127.0.0.1", "127.0.0.1"])

    async def note(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(text=KEYS)

    async def rebinding(host: str, port: int, **_: object) -> list[object]:
        del host
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    async with server(note) as url:
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", rebinding)
        for _ in range(2):
            with pytest.raises(FetchError):
                await fetch(f"http://rebinding.example:{url.rpartition(':')[2]}/", Guard(), seconds=0.3)
    assert asked == []


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("http://169.254.169.254/", "private, local or blocked"),
        ("http://10.0.0.1/", "private, local or blocked"),
        ("file:///etc/passwd", "no URL of scheme http"),
        ("gopher://127.0.0.1/", "no URL of scheme http"),
        ("/again", "redirects"),
        ("", "redirects"),
    ],
)
async def test_a_redirect_is_judged_like_the_first_address_and_they_are_few(location: str, message: str) -> None:
    """Row SEC54 of the hostile inputs."""
    asked: list[str] = []

    async def turn(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(status=302, headers={"Location": location})

    async with server(turn) as url:
        with pytest.raises(FetchError, match=message):
            await fetch(f"{url}/keys")
    assert len(asked) <= 4


async def test_a_redirect_to_where_keys_are_is_followed() -> None:
    async def turn(request: web.Request) -> web.Response:
        if request.path == "/keys":
            return web.Response(status=307, headers={"Location": "/v2"})
        return web.Response(text=KEYS)

    async with server(turn) as url:
        assert await fetch(f"{url}/keys") == jwks.usable(KEYS)


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"x" * (jwks.LARGEST + 1), 200, "more than 1048576 bytes"),
        (KEYS.encode(), 503, "answered 503"),
        (b"<html>", 200, "no JSON"),
        (b"\xff\xfe", 200, "UnicodeDecodeError"),
        (b'{"keys": []}', 200, "no key"),
        (b'{"keys": [{"kty": "RSA", "n": "abc", "e": "def"}]}', 200, "no key"),
    ],
    ids=["large", "error", "html", "bytes", "empty", "weak"],
)
async def test_what_is_no_key_set_is_a_failure_in_words(body: bytes, status: int, message: str) -> None:
    async def junk(_: web.Request) -> web.Response:
        return web.Response(body=body, status=status)

    async with server(junk) as url:
        with pytest.raises(FetchError, match=message):
            await fetch(f"{url}/keys")


async def test_a_slow_server_is_given_up_in_the_rules_time() -> None:
    async def slow(_: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async with server(slow) as url:
        with pytest.raises(FetchError, match=r"no answer within 0\.2 s"):
            await fetch(f"{url}/keys", seconds=0.2)


async def test_nobody_there_and_no_such_name_are_failures_in_words() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(FetchError, match="cannot connect"):
            await fetch(f"http://127.0.0.1:{free.getsockname()[1]}/")
    with pytest.raises(FetchError, match="cannot connect"):
        await fetch("http://no-such-name.invalid/")


async def test_a_server_that_shows_no_trusted_certificate_is_a_failure(tmp_path: pathlib.Path) -> None:
    async with server(keys) as url:
        with pytest.raises(FetchError):
            await fetch(url.replace("http:", "https:"))
    roots = tmp_path / "extra.pem"
    roots.write_text("no certificate")
    with pytest.raises(FetchError, match="certificate"):
        await Fetcher(LOCAL, lambda _: frozenset(), roots).fetch(
            KeySource(uri="https://127.0.0.1:1/"), timedelta(seconds=1)
        )


async def test_roots_are_read_once_until_the_extra_ones_change(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_before, reads = ssl.create_default_context, 0

    def counted() -> ssl.SSLContext:
        nonlocal reads
        reads += 1
        return made_before()

    monkeypatch.setattr(ssl, "create_default_context", counted)
    roots = tmp_path / "extra.pem"
    fetcher = Fetcher(LOCAL, lambda _: frozenset(), roots)
    system = made_before().get_ca_certs(binary_form=True)
    async with server(keys) as url:

        async def fetched() -> int:
            await fetcher.fetch(KeySource(uri=url), timedelta(seconds=5))
            return reads

        assert [await fetched(), await fetched()] == [1, 1]
        roots.write_text(ssl.DER_cert_to_PEM_cert(system[0]))
        assert [await fetched(), await fetched()] == [2, 2]
        os.utime(roots, ns=(0, 1))
        assert await fetched() == 3
