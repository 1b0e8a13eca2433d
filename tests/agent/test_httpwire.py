"""The HTTP that the agent speaks, towards servers that answer well, badly and not at all."""

import asyncio

import pytest

from agent import httpwire
from tests.agent.test_status import Server, chunked, fetch, ok, serving


async def test_bodies_by_length_by_chunks_and_to_the_end_are_read() -> None:
    answers = {"/length": ok(b"abc"), "/chunks": chunked(b"ab", b"c"), "/end": b"HTTP/1.1 200 OK\r\n\r\nabc"}
    answers["/extended"] = chunked(b"ab", b"c").replace(b"\r\n2\r\n", b'\r\n2 ;x="y"\r\n')
    async with serving(answers) as server:
        assert [(await fetch(server, path)).body for path in answers] == [b"abc"] * 4
        assert (await fetch(server, "/other")).status == 404


async def test_what_is_no_answer_is_an_error_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httpwire, "MAX_BODY_BYTES", 10)
    head = b"HTTP/1.1 200 OK\r\n"
    answers = {
        "/odd": (b"SSH-2.0\r\n\r\n", "no HTTP status line"),
        "/few": (b"HTTP/1.1 3 OK\r\n\r\n", "no HTTP status line"),
        "/many": (b"HTTP/1.1 0200 OK\r\n\r\n", "no HTTP status line"),
        "/code": (b"HTTP/1.1 \xb2 OK\r\n\r\n", "no HTTP status line"),
        "/short": (head, "connection broke"),
        "/long": (ok(b"x" * 11), "longer than"),
        "/size": (head + b"Content-Length: x\r\n\r\n", "no HTTP"),
        "/chunk": (head + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n", "no HTTP"),
        "/between": (chunked(b"ab").removesuffix(b"0\r\n\r\n"), "connection broke"),
        "/cut": (head + b"Content-Length: 3\r\n\r\nab", "connection broke"),
        "/line": (head + b"A: b\nC: d\r\n\r\n", "control character"),
    }
    async with serving({path: answer for path, (answer, _) in answers.items()}) as server:
        for path, (_, reason) in answers.items():
            with pytest.raises(httpwire.HttpError, match=reason):
                await fetch(server, path)
    with pytest.raises(httpwire.HttpError, match="cannot reach"):
        await fetch(server)


async def test_what_would_smuggle_a_line_is_not_sent() -> None:
    async with serving({}) as server:
        target = httpwire.Target("127.0.0.1", server.port)
        for path, headers in (("/a\r\nX: y", {}), ("/a b", {}), ("/", {"X": "a\nb"})):
            with pytest.raises(httpwire.HttpError, match="cannot be sent"):
                await httpwire.request(target, "GET", path, headers)
        assert server.asked == []


async def test_silence_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httpwire, "TIMEOUT_SECONDS", 0.05)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        writer.close()
        left.set()

    left = asyncio.Event()
    listener = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with listener:
        with pytest.raises(httpwire.HttpError, match="did not answer within"):
            await fetch(Server({}, port=listener.sockets[0].getsockname()[1]))
        await left.wait()
