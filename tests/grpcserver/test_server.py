"""The shell: sockets, TLS, limits before anybody is known, and how connections end. Clients are real ones."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import errno
import resource
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import grpc
import grpc.aio
import hpack
import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from istiod.ca import authority, serving
from istiod.grpcserver import frames, server
from istiod.grpcserver.deadlines import Limits
from istiod.grpcserver.request import Request
from istiod.grpcserver.server import Server
from istiod.grpcserver.status import Code, RpcError
from istiod.grpcserver.stream import Client, Receiver, Stream
from istiod.grpcserver.unary import unary
from tests.grpcserver.wire import HEAD, Call, parse
from tests.waiting import until
from wire.spiffe import Identity

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Open = Callable[..., Awaitable[Connection]]
ECHO = "/test.Echo/Call"
ONE = "/test.Echo/One"
FAST = Limits(handshake=0.5, unknown=0.5, idle=5.0, write=1.0, keepalive=0.5, answer=0.3, age=60.0, grace=0.5)


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


class Served:
    """A server that echoes, and what its calls heard."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.calls: list[Call] = []
        self.server = Server({ECHO: self._open, ONE: unary(self._answer), "/test.Echo/Bug": self._bug}, limits)

    def _open(self, stream: Stream, _: Request) -> Receiver:
        stream.accept(1 << 24)
        self.calls.append(Call(stream, echo=True))
        return self.calls[-1]

    def _bug(self, _: Stream, __: Request) -> Receiver:
        raise ZeroDivisionError

    async def _answer(self, raw: bytes, request: Request, client: Client) -> bytes:
        assert client.address.startswith("127.0.0.1:")
        if raw == b"refuse":
            raise RpcError(Code.NOT_FOUND, "nothing")
        if raw == b"bug":
            raise ZeroDivisionError
        if raw == b"wait":
            await asyncio.sleep(60)
        return raw + request.path.encode()


@contextlib.asynccontextmanager
async def served(
    limits: Limits | None = None, context: Callable[[], ssl.SSLContext] | None = None
) -> AsyncIterator[tuple[Served, int]]:
    made = Served(limits)
    port = made.server.listen("127.0.0.1:0", context)
    try:
        yield made, port
    finally:
        await made.server.stop(0.1)


@pytest.fixture(scope="module")
def ca() -> authority.Authority:
    return authority.Authority(authority.self_signed("cluster.local", now()))


def client(ca: authority.Authority, life: float = 3600.0) -> tuple[bytes, bytes]:
    """Key and chain of a workload."""
    key = ec.generate_private_key(ec.SECP256R1())
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    identity = Identity("cluster.local", "demo", "app")
    pem = csr.public_bytes(serialization.Encoding.PEM).decode()
    chain = ca.sign(pem, identity, dt.timedelta(seconds=life), now())
    return authority.private_pem(key), "".join(chain[:-1]).encode()


@pytest_asyncio.fixture
async def opened() -> AsyncIterator[Open]:
    """Opens plain or TLS connections, and closes them at the end."""
    async with contextlib.AsyncExitStack() as stack:

        async def opener(port: int, context: ssl.SSLContext | None = None) -> Connection:
            reader, writer = await asyncio.open_connection("localhost", port, family=socket.AF_INET, ssl=context)
            stack.push_async_callback(closed, writer)
            return reader, writer

        yield opener


async def closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


# Calls


async def test_unary_calls_are_answered_refused_and_ended_in_time(caplog: pytest.LogCaptureFixture) -> None:
    async with served() as (_, port), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        one = channel.unary_unary(ONE)
        assert await one(b"hello") == b"hello" + ONE.encode()
        cases = [
            (one(b"refuse"), grpc.StatusCode.NOT_FOUND),
            (one(b"bug"), grpc.StatusCode.INTERNAL),
            (one(b"wait", timeout=0.3), grpc.StatusCode.DEADLINE_EXCEEDED),
            (one(b"x" * 70_000), grpc.StatusCode.RESOURCE_EXHAUSTED),
            (one(b"x", compression=grpc.Compression.Gzip), grpc.StatusCode.UNIMPLEMENTED),
            (channel.unary_unary("/test.Echo/None")(b""), grpc.StatusCode.UNIMPLEMENTED),
        ]
        for call, code in cases:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() is code
        many = channel.stream_unary(ONE)
        for messages in ([], [b"1", b"2"]):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await many(iter(messages))
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "ZeroDivisionError" in caplog.text


async def test_a_client_that_leaves_cancels_what_it_asked_for() -> None:
    async with served() as (made, port), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(ONE)(b"wait")
        before = len(asyncio.all_tasks())
        await until(lambda: len(asyncio.all_tasks()) > before - 1 and made.server.connections == 1, "it runs")
        call.cancel()
        await channel.unary_unary(ONE)(b"next")


async def test_a_bug_in_a_service_ends_its_connection_only(caplog: pytest.LogCaptureFixture) -> None:
    async with served() as (_, port):
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            with pytest.raises(grpc.aio.AioRpcError):
                await channel.unary_unary("/test.Echo/Bug")(b"")
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            assert await channel.unary_unary(ONE)(b"next")
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("secure", [False, True])
async def test_large_messages_go_both_ways(ca: authority.Authority, *, secure: bool) -> None:
    certificate = serving.ServingCertificate(ca, now)
    options = [("grpc.max_receive_message_length", -1)]
    async with served(context=certificate.context if secure else None) as (made, port):
        trust = grpc.ssl_channel_credentials(ca.roots.encode(), *client(ca))
        address = f"localhost:{port}"
        channel = (
            grpc.aio.secure_channel(address, trust, options) if secure else grpc.aio.insecure_channel(address, options)
        )
        async with channel:
            call = channel.stream_stream(ECHO)()
            for size in (0, 1, 20_000, 5_000_000, 3):
                await call.write(b"x" * size)
                assert len(await call.read()) == size
            await call.done_writing()
            assert await call.code() is grpc.StatusCode.OK
        stream = made.calls[0].stream
        assert (stream.client.secure, stream.client.certificate is not None) == (secure, secure)
        assert stream.client.address.startswith("127.0.0.1:")


# TLS


async def test_certificates_are_optional_and_a_renewed_one_serves_new_connections(
    ca: authority.Authority, opened: Open
) -> None:
    certificate = serving.ServingCertificate(ca, now)
    seen = []
    async with served(context=certificate.context) as (made, port):
        trust = ssl.create_default_context(cadata=ca.roots)
        trust.set_alpn_protocols(["h2"])
        for _ in range(2):
            reader, writer = await opened(port, trust)
            seen.append(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
            assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
            assert parse(await reader.read(1_000))[0]
            certificate.renew()
            assert made.server.connections == len(seen), "those that there are stay"
        assert seen[0] != seen[1]


async def test_old_tls_and_other_protocols_are_refused(ca: authority.Authority, opened: Open) -> None:
    async with served(context=serving.ServingCertificate(ca, now).context) as (made, port):
        old = ssl.create_default_context(cadata=ca.roots)
        old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        with pytest.warns(DeprecationWarning, match="TLSv1"):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(ssl.SSLError):
            await opened(port, old)
        http1 = ssl.create_default_context(cadata=ca.roots)
        http1.set_alpn_protocols(["http/1.1"])
        reader, writer = await opened(port, http1)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert parse(await reader.read())[0][-1].kind == frames.GOAWAY
        _, writer = await opened(port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        await until(lambda: made.server.connections == 0, "all are closed")


# Limits


async def test_handshakes_silence_and_idleness_end_connections(ca: authority.Authority, opened: Open) -> None:
    async with (
        served(FAST) as (plain, port),
        served(FAST, serving.ServingCertificate(ca, now).context) as (secure, secure_port),
    ):
        await opened(port)
        await opened(secure_port)
        greeted, writer = await opened(port)
        writer.write(frames.PREFACE + frames.settings({}))
        assert plain.server.connections == 2
        await until(lambda: plain.server.connections == secure.server.connections == 0, "all are closed")
        kinds = [frame.kind for frame in parse(await greeted.read(10_000))[0]]
        assert kinds[-1] == frames.GOAWAY


async def test_a_client_that_answers_no_ping_is_cut_and_one_that_does_is_not(opened: Open) -> None:
    async with served(FAST) as (made, port), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.stream_stream(ECHO)()
        await call.write(b"x")
        await call.read()
        _, writer = await opened(port)
        head = b"".join((frames.PREFACE, frames.settings({}), plain_head()))
        writer.write(head)
        await until(lambda: len(made.calls) == 2, "both call")
        await until(lambda: made.server.connections == 1, "the one that is silent is cut")
        await call.write(b"y")
        assert await call.read() == b"y"


def plain_head() -> bytes:
    return frames.frame(frames.HEADERS, frames.END_HEADERS, 1, hpack.Encoder().encode(list(HEAD)))


async def test_calls_that_come_in_one_piece_are_all_taken_though_nothing_more_comes() -> None:
    heads = [frames.frame(frames.HEADERS, frames.END_HEADERS, 1 + 2 * at, plain_head()[9:]) for at in range(30)]
    async with served() as (made, port):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(frames.PREFACE + frames.settings({}) + b"".join(heads))
        await until(lambda: len(made.calls) == 30, "every call is begun")
        await closed(writer)


async def test_a_connection_of_age_is_drained_and_then_closed() -> None:
    limits = Limits(age=1.0, grace=1.0, write=1.0)
    async with served(limits) as (made, port), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.stream_stream(ECHO)()
        await call.write(b"x")
        await call.read()
        assert await asyncio.wait_for(call.code(), 10) is grpc.StatusCode.UNAVAILABLE
        await until(lambda: made.server.connections == 0, "the connection is closed")
        assert await channel.unary_unary(ONE)(b"anew"), "the client connects anew by itself"


async def test_clients_that_reset_before_they_are_accepted_leave_nothing() -> None:
    async with served() as (made, port):
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", port)) as hasty:
                hasty.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            assert await channel.unary_unary(ONE)(b"x")
            await until(lambda: made.server.connections == 1, "only the one that came after them is there")


async def test_a_client_that_reads_nothing_and_talks_on_is_ended_all_the_same() -> None:
    async with served() as (made, port):
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            deaf.connect(("127.0.0.1", port))
            room = 2**31 - 1
            deaf.sendall(
                b"".join(
                    (
                        frames.PREFACE,
                        frames.settings({frames.SETTINGS_INITIAL_WINDOW_SIZE: room}),
                        frames.window_update(0, room - frames.DEFAULT_WINDOW),
                        plain_head(),
                    )
                )
            )
            await until(lambda: bool(made.calls), "it calls")
            (connection,) = made.server._connections
            connection._channel._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
            made.calls[0].stream.send(b"x" * 1_000_000)
            await until(lambda: bool(connection._unsent), "a chunk is more than the client's machine takes")
            deaf.sendall(frames.frame(frames.PING, 0, 1, bytes(8)))

            def ended() -> bool:
                with contextlib.suppress(OSError):
                    deaf.send(frames.frame(frames.PING, 0, 0, bytes(8)))
                return made.server.connections == 0

            deaf.settimeout(0)
            await until(ended, "it is gone")


async def test_without_file_descriptors_the_server_waits_for_some(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server, "_PAUSE", 0.1)
    real, failed = socket.socket.accept, []

    def accept(listener: socket.socket) -> tuple[socket.socket, object]:
        if not failed:
            failed.append(1)
            raise OSError(errno.EMFILE, "too many open files")
        return real(listener)

    monkeypatch.setattr(socket.socket, "accept", accept)
    async with served() as (_, port), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        assert await channel.unary_unary(ONE)(b"x")
    assert "out of file descriptors" in caplog.text


@pytest.fixture
def limited() -> Iterator[int]:
    """The hard limit of file descriptors, while the soft one is the usual."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 1_024), hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_connections_have_all_file_descriptors_that_there_may_be_but_some(limited: int) -> None:
    assert Server({})._most == min(server.MAX_CONNECTIONS, limited - server.RESERVED_FILES)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (limited, limited)


def test_a_hard_limit_above_the_kernels_own_leaves_the_soft_one(limited: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "not permitted")

    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert Server({})._most == min(limited, 1_024) - server.RESERVED_FILES
    monkeypatch.undo()


# Addresses and ends


async def test_addresses_are_read_as_flags_have_them() -> None:
    made = Server({})
    with pytest.raises(OSError, match=r"10\.255\.255\.1:0: "):
        made.listen("10.255.255.1:0")
    for address in (":0", "[::]:0", "[::1]:0", "localhost:0"):
        port = made.listen(address)
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            if address in {":0", "[::]:0"} or (address == "[::1]:0") == (family == socket.AF_INET6):
                socket.create_connection((host, port)).close()
    await made.stop(0)
    await made.stop(0)


async def test_a_server_that_stops_lets_calls_end_and_cuts_those_that_do_not() -> None:
    async with served() as (made, port), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.stream_stream(ECHO)()
        await call.write(b"x")
        await call.read()
        stopping = asyncio.create_task(made.server.stop(5.0))
        await asyncio.sleep(0)
        await call.write(b"y")
        assert await call.read() == b"y"
        await call.done_writing()
        assert await call.code() is grpc.StatusCode.OK
        await asyncio.wait_for(stopping, 4)


async def test_no_connection_outlives_the_server(opened: Open) -> None:
    async with served() as (made, port):
        await opened(port)
        await until(lambda: made.server.connections == 1, "it is there")
    assert made.server.connections == 0
