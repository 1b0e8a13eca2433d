"""One connection frame by frame: calls, windows, and everything that a client may not do."""

from __future__ import annotations

import pytest

from istiod.grpcserver import frames
from istiod.grpcserver.frames import ErrorCode
from istiod.grpcserver.http2 import CONNECTION_WINDOW, MAX_STREAMS, STREAM_WINDOW
from istiod.grpcserver.outbox import MAX_CONTROL
from istiod.grpcserver.status import Code
from tests.grpcserver.wire import HEAD, Wire, body, data, kinds, message

WINDOW = 65_535


def window(count: int, stream: int = 0) -> bytes:
    return frames.window_update(stream, count)


def ping(payload: bytes = b"12345678", flags: int = 0) -> bytes:
    return frames.frame(frames.PING, flags, 0, payload)


# Calls


def test_the_server_speaks_first_and_tells_its_limits() -> None:
    wire = Wire(greet=False)
    settings, grown = wire.hear()
    assert (settings.kind, grown.kind) == (frames.SETTINGS, frames.WINDOW_UPDATE)
    assert settings.payload[:6] == b"\0\3" + MAX_STREAMS.to_bytes(4, "big")
    wire.say(frames.PREFACE, frames.settings({}))
    (ack,) = wire.hear()
    assert (ack.kind, ack.flags) == (frames.SETTINGS, frames.ACK)


def test_a_message_is_answered_in_one_frame_and_the_call_ends_with_trailers() -> None:
    wire = Wire(echo=True)
    wire.say(wire.headers(), data(message(b"hello")))
    head, answer = wire.hear()
    assert dict(wire.decoder.decode(head.payload)) == {
        ":status": "200",
        "content-type": "application/grpc",
        "grpc-accept-encoding": "identity",
    }
    assert answer.payload == message(b"hello")
    wire.say(data(b"", end=True))
    (end,) = wire.hear()
    assert wire.status(end) == ("0", "")
    assert wire.calls[0].heard == [b"hello"]
    assert wire.calls[0].stream.client.address == "10.0.0.1:4000"
    assert not wire.http.streams


def test_a_call_may_end_with_its_trailers_or_with_its_head() -> None:
    wire = Wire()
    wire.say(wire.headers(), wire.headers(headers=[("x", "y")], end=True), wire.headers(3, end=True))
    assert [call.events for call in wire.calls] == [["done"], ["done"]]


def test_a_server_that_ends_a_call_first_tells_its_client_to_stop() -> None:
    wire = Wire()
    wire.say(wire.headers())
    wire.calls[0].stream.finish(Code.NOT_FOUND, "100 % ä")
    wire.calls[0].stream.finish(Code.OK)
    wire.calls[0].stream.send(b"too late")
    end, reset = wire.hear()
    assert wire.status(end) == ("5", "100 %25 %C3%A4")
    assert (reset.kind, reset.payload) == (frames.RST_STREAM, bytes(4))
    wire.say(data(message(b"late")), wire.headers(headers=[("x", "y")], end=True), frames.reset(1, ErrorCode.CANCEL))
    assert wire.hear() == []
    assert wire.calls[0].heard == []


def test_a_method_that_is_not_there_and_a_message_that_is_refused() -> None:
    wire = Wire()
    wire.say(
        wire.headers(headers=[*HEAD[:2], (":path", "/no"), *HEAD[3:]]), wire.headers(3), data(message(b"refuse"), 3)
    )
    frames_of = [f for f in wire.hear() if f.kind == frames.HEADERS]
    assert [wire.status(f) for f in frames_of] == [("12", "no /no"), ("3", "not this")]
    assert wire.calls[0].events == ["lost"]


def test_headers_that_are_no_request_reset_their_stream_only() -> None:
    wire = Wire(echo=True)
    wire.say(wire.headers(headers=HEAD[1:]), wire.headers(3), data(message(b"x"), 3))
    reset, *rest = wire.hear()
    assert (reset.kind, reset.stream, reset.payload) == (frames.RST_STREAM, 1, b"\0\0\0\1")
    assert body(rest, 3) == message(b"x")


def test_a_client_that_gives_a_call_up_is_forgotten() -> None:
    wire = Wire()
    wire.say(wire.headers())
    wire.calls[0].stream.send(b"x" * 100_000)
    wire.say(frames.reset(1, ErrorCode.CANCEL))
    assert wire.calls[0].events == ["lost"]
    assert not wire.http.streams
    assert body(wire.hear()) == b""


def test_a_message_that_is_cut_off_ends_its_call() -> None:
    wire = Wire()
    wire.say(wire.headers(), data(message(b"hello")[:-1], end=True))
    (end,) = wire.hear()
    assert wire.status(end) == ("13", "the call ended in the middle of a message")


def test_padding_and_priorities_are_passed_over() -> None:
    wire = Wire()
    block = b"\2" + bytes(5) + wire.block(HEAD) + b"\0\0"
    flags = frames.END_HEADERS | frames.PADDED | frames.PRIORITIZED
    padded = b"\3" + message(b"hello") + bytes(3)
    wire.say(frames.frame(frames.HEADERS, flags, 1, block), frames.frame(frames.DATA, frames.PADDED, 1, padded))
    wire.say(
        frames.frame(frames.PRIORITY, 0, 1, bytes(5)), frames.frame(0x77, 0, 0), frames.goaway(0, ErrorCode.NO_ERROR)
    )
    assert wire.calls[0].heard == [b"hello"]


def test_a_header_block_may_come_in_pieces() -> None:
    wire = Wire()
    block = wire.block(HEAD)
    wire.say(frames.frame(frames.HEADERS, 0, 1, block[:4]))
    assert wire.http.midway
    wire.say(frames.frame(frames.CONTINUATION, 0, 1, block[4:9]), frames.frame(frames.CONTINUATION, 4, 1, block[9:]))
    assert not wire.http.midway
    assert len(wire.calls) == 1


def test_pings_are_answered_and_answers_are_counted() -> None:
    wire = Wire()
    wire.say(ping())
    (pong,) = wire.hear()
    assert (pong.flags, pong.payload) == (frames.ACK, b"12345678")
    wire.http.ping()
    (asked,) = wire.hear()
    wire.say(ping(asked.payload, frames.ACK))
    assert wire.http.pongs == 1


def test_a_small_table_of_the_clients_is_honoured() -> None:
    wire = Wire(echo=True)
    wire.say(frames.settings({frames.SETTINGS_HEADER_TABLE_SIZE: 0, frames.SETTINGS_ENABLE_PUSH: 0, 99: 1}))
    wire.hear()
    wire.decoder.max_allowed_table_size = 0
    wire.say(wire.headers(), data(message(b"")))
    assert dict(wire.decoder.decode(wire.hear()[0].payload))[":status"] == "200"
    wire.say(frames.settings({frames.SETTINGS_HEADER_TABLE_SIZE: 0}))
    wire.say(wire.headers(3, headers=[*HEAD[:2], (":path", "/no"), *HEAD[3:]], end=True))
    assert wire.status(wire.hear()[-1])[0] == "12"


# Windows towards the client


def test_what_does_not_fit_the_clients_window_waits_for_it() -> None:
    wire = Wire()
    wire.say(wire.headers())
    stream = wire.calls[0].stream
    stream.send(b"x" * 100_000)
    assert stream.pending
    first = wire.hear()
    assert len(body(first)) == WINDOW
    assert {len(f.payload) for f in first if f.kind == frames.DATA} == {16_384, 16_383}
    wire.say(window(1_000_000))
    assert wire.hear() == []
    assert wire.http.outbox.empty
    wire.say(window(10, 1), window(1_000_000, 1))
    assert body(first) + body(wire.hear()) == message(b"x" * 100_000)
    assert not stream.pending
    assert wire.calls[0].events == ["drained"]
    assert stream.turn == 1


def test_the_connections_window_holds_all_calls_and_they_take_turns() -> None:
    wire = Wire()
    wire.say(wire.headers(1), wire.headers(3))
    one, other = (call.stream for call in wire.calls)
    one.send(b"1" * 60_000)
    other.send(b"2" * 60_000)
    one.send(b"3")
    found = wire.hear()
    assert abs(len(body(found, 1)) - len(body(found, 3))) <= 16_384
    assert len(body(found, 1)) + len(body(found, 3)) == WINDOW
    wire.say(window(1 << 20))
    found += wire.hear()
    assert body(found, 1) == message(b"1" * 60_000) + message(b"3")
    assert body(found, 3) == message(b"2" * 60_000)


def test_a_status_follows_what_is_pending_and_a_small_take_is_enough() -> None:
    wire = Wire()
    wire.say(wire.headers(end=True), window(1 << 20), window(1 << 20, 1))
    wire.calls[0].stream.send(b"x" * 50_000)
    wire.calls[0].stream.finish(Code.OK)
    found = wire.hear(limit=1_000)
    assert body(found) == message(b"x" * 50_000)
    assert wire.status(found[-1]) == ("0", "")
    assert len(found) > 50


def test_settings_change_the_windows_of_open_calls_also_below_zero() -> None:
    wire = Wire()
    wire.say(wire.headers(), window(1 << 20))
    stream = wire.calls[0].stream
    stream.send(b"x" * 60_000)
    wire.say(frames.settings({frames.SETTINGS_INITIAL_WINDOW_SIZE: 10, frames.SETTINGS_MAX_FRAME_SIZE: 20_000}))
    assert len(body(wire.hear())) == 10
    wire.say(frames.settings({frames.SETTINGS_INITIAL_WINDOW_SIZE: 0}))
    assert stream.window == -10
    wire.say(window(10, 1))
    assert body(wire.hear()) == b""
    wire.say(frames.settings({frames.SETTINGS_INITIAL_WINDOW_SIZE: WINDOW}))
    assert len(body(wire.hear())) == 60_005 - 10


def test_while_the_socket_takes_nothing_small_messages_wait_too() -> None:
    wire = Wire()
    wire.say(wire.headers())
    wire.http.outbox.full = True
    wire.calls[0].stream.send(b"small")
    assert wire.calls[0].stream.pending
    assert body(wire.hear()) == message(b"small")


# Windows towards us


def test_an_unknown_client_gets_no_more_than_its_first_window() -> None:
    wire = Wire()
    wire.say(wire.headers(), *(data(b"\0\0\0\xff\xff" + b"x" * 15_995) for _ in range(4)))
    assert wire.hear() == []
    wire.say(data(b"x" * 2_000))
    assert wire.failure() == ErrorCode.FLOW_CONTROL_ERROR


def test_all_unknown_calls_of_a_connection_share_its_window() -> None:
    wire = Wire()
    wire.say(*(wire.headers(number) for number in (1, 3, 5, 7, 9)))
    for number in (1, 3, 5, 7, 9):
        wire.say(*(data(b"\0\0\0\xff\xff" + b"x" * 15_000, number) for _ in range(4)))
    assert wire.failure() == ErrorCode.FLOW_CONTROL_ERROR


def test_what_an_unknown_call_held_comes_back_with_its_end() -> None:
    wire = Wire()
    for number in range(1, 40, 2):
        wire.say(wire.headers(number), *(data(b"\0\0\0\xff\xff" + b"x" * 15_000, number) for _ in range(4)))
        wire.say(frames.reset(number, ErrorCode.CANCEL))
    assert not wire.http.closed
    assert (
        sum(int.from_bytes(f.payload, "big") for f in wire.hear() if f.kind == frames.WINDOW_UPDATE) > CONNECTION_WINDOW
    )


def test_a_known_client_gets_room_for_a_large_message() -> None:
    wire = Wire(accept=1 << 20)
    large = message(b"x" * (1 << 20))
    wire.say(wire.headers())
    room, connection, at = WINDOW, CONNECTION_WINDOW, 0
    while at < len(large):
        for found in wire.hear():
            if found.kind == frames.WINDOW_UPDATE and found.stream:
                room += int.from_bytes(found.payload, "big")
            elif found.kind == frames.WINDOW_UPDATE:
                connection += int.from_bytes(found.payload, "big")
        size = min(16_384, room, connection, len(large) - at)
        assert size
        wire.say(data(large[at : at + size]))
        at, room, connection = at + size, room - size, connection - size
    assert wire.calls[0].heard == [large[5:]]
    assert room < STREAM_WINDOW


def test_a_client_that_becomes_known_gets_what_it_held_back() -> None:
    wire = Wire()
    wire.say(wire.headers(), data(message(b"x" * 10_000)))
    wire.calls[0].stream.accept(1 << 20)
    wire.calls[0].stream.accept(1 << 10)
    (grown,) = wire.hear()
    assert (grown.stream, int.from_bytes(grown.payload, "big")) == (1, STREAM_WINDOW - WINDOW + 10_005)
    wire.say(data(message(b"x" * 2_000)))
    assert wire.status(wire.hear()[0])[0] == "8"


@pytest.mark.parametrize(("flag", "length", "code"), [(1, 3, "12"), (0, 65_537, "8")])
def test_messages_that_are_compressed_or_too_long_are_refused(flag: int, length: int, code: str) -> None:
    wire = Wire()
    wire.say(wire.headers(), data(bytes((flag,)) + length.to_bytes(4, "big") + b"abc"))
    assert wire.status(wire.hear()[0])[0] == code


# Limits


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frames.frame(frames.DATA, 0, 0), ErrorCode.PROTOCOL_ERROR),
        (frames.frame(frames.DATA, 0, 5, b"x"), ErrorCode.PROTOCOL_ERROR),
        (frames.frame(frames.DATA, frames.PADDED, 1, b"\5xx"), ErrorCode.PROTOCOL_ERROR),
        (frames.frame(frames.DATA, frames.PADDED, 1), ErrorCode.PROTOCOL_ERROR),
        (frames.head(16_385, frames.DATA, 0, 1), ErrorCode.FRAME_SIZE_ERROR),
        (frames.frame(frames.HEADERS, 4, 0), ErrorCode.PROTOCOL_ERROR),
        (frames.frame(frames.HEADERS, 4, 2, b"\x82"), ErrorCode.PROTOCOL_ERROR),
        (frames.frame(frames.HEADERS, 4, 1, b"\x82"), ErrorCode.PROTOCOL_ERROR),
        (frames.frame(frames.HEADERS, 4, 3, b"\xff\xff\xff"), ErrorCode.COMPRESSION_ERROR),
        (frames.frame(frames.HEADERS, 4 | frames.PRIORITIZED, 3, b"1234"), ErrorCode.FRAME_SIZE_ERROR),
        (frames.frame(frames.HEADERS, 4 | frames.PADDED, 3, b"\4"), ErrorCode.PROTOCOL_ERROR),
        (frames.frame(frames.HEADERS, 0, 3) + frames.frame(frames.PING, 0, 0, bytes(8)), ErrorCode.PROTOCOL_ERROR),
        (frames.frame(frames.HEADERS, 0, 3) + frames.frame(frames.CONTINUATION, 4, 5), ErrorCode.PROTOCOL_ERROR),
        (frames.frame(frames.CONTINUATION, 4, 1), ErrorCode.PROTOCOL_ERROR),
        (frames.frame(frames.RST_STREAM, 0, 1, b"123"), ErrorCode.FRAME_SIZE_ERROR),
        (frames.reset(9, ErrorCode.CANCEL), ErrorCode.PROTOCOL_ERROR),
        (frames.frame(frames.PUSH_PROMISE, 4, 1), ErrorCode.PROTOCOL_ERROR),
        (frames.frame(frames.SETTINGS, 0, 1), ErrorCode.PROTOCOL_ERROR),
        (frames.frame(frames.SETTINGS, 0, 0, b"12345"), ErrorCode.FRAME_SIZE_ERROR),
        (frames.frame(frames.SETTINGS, frames.ACK, 0, b"123456"), ErrorCode.FRAME_SIZE_ERROR),
        (frames.settings({frames.SETTINGS_INITIAL_WINDOW_SIZE: 1 << 31}), ErrorCode.FLOW_CONTROL_ERROR),
        (frames.settings({frames.SETTINGS_MAX_FRAME_SIZE: 16_383}), ErrorCode.PROTOCOL_ERROR),
        (frames.settings({frames.SETTINGS_ENABLE_PUSH: 2}), ErrorCode.PROTOCOL_ERROR),
        (frames.frame(frames.PING, 0, 0, b"1"), ErrorCode.FRAME_SIZE_ERROR),
        (frames.frame(frames.PING, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
        (frames.frame(frames.WINDOW_UPDATE, 0, 0, b"123"), ErrorCode.FRAME_SIZE_ERROR),
        (window(0), ErrorCode.PROTOCOL_ERROR),
        (window(1, 8), ErrorCode.PROTOCOL_ERROR),
        (window(2**31 - 1), ErrorCode.FLOW_CONTROL_ERROR),
        (window(2**31 - 1, 1), ErrorCode.FLOW_CONTROL_ERROR),
    ],
)
def test_what_breaks_the_protocol_ends_the_connection(sent: bytes, code: ErrorCode) -> None:
    wire = Wire()
    wire.say(wire.headers())
    wire.say(sent)
    assert wire.failure() == code
    assert wire.calls[0].events == ["lost"]
    assert wire.http.failure
    wire.say(ping())
    assert wire.hear() == []


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n\r\n", frames.PREFACE + ping(), b"PRI * HTTP/2.0\r\nHost"])
def test_what_is_no_http2_is_told_so(said: bytes) -> None:
    wire = Wire(greet=False)
    wire.say(said)
    assert wire.failure() == ErrorCode.PROTOCOL_ERROR


@pytest.mark.parametrize(
    "flood",
    [
        ping(),
        frames.settings({}),
        frames.frame(frames.SETTINGS, frames.ACK, 0),
        data(b""),
        frames.frame(frames.DATA, frames.PADDED, 1, b"\0"),
        frames.frame(frames.PRIORITY, 0, 1, bytes(5)),
        window(1),
        window(1, 1),
        frames.frame(99, 0, 0),
        ping(flags=frames.ACK),
        frames.reset(1, ErrorCode.CANCEL),
        data(b"x", 1, end=True),
    ],
)
def test_floods_end_the_connection_and_leave_little(flood: bytes) -> None:
    wire = Wire()
    wire.say(wire.headers())
    for _ in range(3_000):
        wire.say(flood)
        if wire.http.closed:
            break
    assert wire.failure() == ErrorCode.ENHANCE_YOUR_CALM


def test_honest_pings_that_measure_our_bandwidth_are_no_flood() -> None:
    wire = Wire()
    wire.say(wire.headers())
    for _ in range(5_000):
        wire.calls[0].stream.send(b"x" * 300)
        wire.say(ping(), window(305), window(305, 1))
        wire.hear()
    assert not wire.http.closed


def test_a_rapid_reset_ends_the_connection() -> None:
    wire = Wire()
    for number in range(1, 2_001, 2):
        wire.say(wire.headers(number), frames.reset(number, ErrorCode.CANCEL))
    assert wire.failure() == ErrorCode.ENHANCE_YOUR_CALM
    assert len(wire.calls) <= 101


def test_so_do_calls_in_quick_succession_but_not_slow_ones() -> None:
    wire = Wire(echo=True)
    for number in range(1, 2_001, 2):
        wire.now += 0.1
        wire.say(wire.headers(number, end=True))
    assert not wire.http.closed
    for number in range(2_001, 4_001, 2):
        wire.say(wire.headers(number, end=True))
    assert wire.failure() == ErrorCode.ENHANCE_YOUR_CALM


def test_more_calls_at_once_than_there_may_be_are_refused() -> None:
    wire = Wire()
    wire.say(*(wire.headers(2 * at + 1) for at in range(MAX_STREAMS + 1)))
    (reset,) = wire.hear()
    assert (reset.stream, reset.payload) == (2 * MAX_STREAMS + 1, ErrorCode.REFUSED_STREAM.to_bytes(4, "big"))
    assert len(wire.calls) == MAX_STREAMS


def test_answers_that_are_not_read_do_not_pile_up() -> None:
    wire = Wire()
    while not wire.http.closed:
        wire.now += 1.0
        wire.say(*(ping() for _ in range(50)))
    assert len(wire.http.take(1 << 30)) < 2 * MAX_CONTROL


@pytest.mark.parametrize(
    "said",
    [
        Wire().headers(headers=[*HEAD, *((f"x-{at}", "a" * 500) for at in range(36))]),
        b"".join(
            (
                frames.frame(frames.HEADERS, 0, 1, b"\0" * 16_000),
                frames.frame(frames.CONTINUATION, 4, 1, b"\0" * 1_000),
            )
        ),
        frames.frame(frames.HEADERS, 0, 1) + frames.frame(frames.CONTINUATION, 0, 1) * 9,
        # An HPACK bomb: a large header is put into the table, then named in one byte, many times
        frames.frame(frames.HEADERS, 4, 1, b"\x40\x01a\x7f\xa1\x1e" + b"b" * 4_000 + b"\xbe" * 10_000),
    ],
    ids=["list", "block", "pieces", "bomb"],
)
def test_headers_have_a_limit(said: bytes) -> None:
    wire = Wire()
    wire.say(said)
    assert wire.failure() == ErrorCode.ENHANCE_YOUR_CALM


# Ends


def test_a_client_is_told_to_go_elsewhere_and_served_until_it_does() -> None:
    wire = Wire(echo=True)
    wire.say(wire.headers())
    wire.http.drain()
    wire.http.drain()
    (goaway,) = wire.hear()
    assert goaway.payload == b"\x7f\xff\xff\xff" + bytes(4)
    wire.say(data(message(b"1")), wire.headers(3), data(message(b"3"), 3))
    found = wire.hear()
    assert (body(found, 1), body(found, 3)) == (message(b"1"), message(b"3"))


def test_a_connection_that_closes_tells_its_calls() -> None:
    wire = Wire()
    wire.say(wire.headers(1), wire.headers(3))
    wire.calls[1].stream.send(b"x" * 100_000)
    wire.http.close(Code.UNAVAILABLE, "bye")
    wire.http.close(Code.UNAVAILABLE, "bye")
    wire.http.drain()
    end, reset, goaway = wire.hear()
    assert wire.status(end) == ("14", "bye")
    assert (reset.kind, goaway.kind) == (frames.RST_STREAM, frames.GOAWAY)
    assert goaway.payload == b"\0\0\0\3" + bytes(4)
    assert [call.events for call in wire.calls] == [["lost"], ["lost"]]


def test_a_connection_that_is_lost_tells_its_calls_too() -> None:
    wire = Wire()
    wire.say(wire.headers())
    wire.http.lose()
    assert wire.calls[0].events == ["lost"]
    wire.calls[0].stream.send(b"x")
    assert kinds(wire.hear()) == []


def test_whoever_sends_wakes_the_connection() -> None:
    wire = Wire()
    wire.say(wire.headers())
    before = wire.woken
    wire.calls[0].stream.send(b"x")
    assert wire.woken == before + 1
