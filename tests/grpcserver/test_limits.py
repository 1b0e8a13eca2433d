"""What a client may not do: more than its windows, floods, and everything that breaks the protocol."""

from __future__ import annotations

import struct

import pytest

from istiod.grpcserver import frames
from istiod.grpcserver.budget import VAIN
from istiod.grpcserver.frames import ErrorCode
from istiod.grpcserver.http2 import CONNECTION_WINDOW, EFFORT, MAX_STREAMS, STREAM_WINDOW
from istiod.grpcserver.inbound import STRANGER
from istiod.grpcserver.outbox import MAX_CONTROL
from tests.grpcserver.wire import HEAD, Wire, data, message

WINDOW = 65_535


def window(count: int, stream: int = 0) -> bytes:
    return frames.window_update(stream, count)


def ping(payload: bytes = b"12345678", flags: int = 0) -> bytes:
    return frames.frame(frames.PING, flags, 0, payload)


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
    """Row SEC25 of the hostile inputs."""
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
        (frames.frame(frames.PRIORITY, 0, 0, bytes(5)), ErrorCode.PROTOCOL_ERROR),
        (frames.frame(frames.PRIORITY, 0, 1, bytes(4)), ErrorCode.FRAME_SIZE_ERROR),
        (frames.frame(frames.GOAWAY, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
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
    """Row SEC26 of the hostile inputs."""
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
    """Row SEC26 of the hostile inputs."""
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
    for at in range(MAX_STREAMS + 1):
        wire.say(wire.headers(2 * at + 1))
    (reset,) = wire.hear()
    assert (reset.stream, reset.payload) == (2 * MAX_STREAMS + 1, ErrorCode.REFUSED_STREAM.to_bytes(4, "big"))
    assert len(wire.calls) == MAX_STREAMS


def test_calls_and_messages_that_come_in_one_piece_are_taken_a_few_at_a_time() -> None:
    """Others have their turn between: a whole record of calls would keep them waiting (SEC24)."""
    wire = Wire(accept=1_024)
    wire.say(*(wire.headers(2 * at + 1) for at in range(MAX_STREAMS)))
    assert len(wire.calls) == 1 + EFFORT - STRANGER, "whose first call is begun is known"
    assert wire.http.paused
    while wire.http.paused:
        wire.say()
    assert len(wire.calls) == MAX_STREAMS
    wire.say(*(data(message(b"x")) for _ in range(EFFORT + 1)), data(b"\0\0\0"))
    assert len(wire.calls[0].heard) == EFFORT
    wire.say()
    assert len(wire.calls[0].heard) == EFFORT + 1
    assert not wire.http.paused, "what is left is no whole frame's worth"


def begun_at_once(wire: Wire, *headers: bytes) -> int:
    before = len(wire.calls)
    wire.say(*headers)
    count = len(wire.calls) - before
    while wire.http.paused:
        wire.say()
    return count


def test_fewer_calls_are_taken_of_whom_nobody_knows_and_fewer_still_with_long_headers() -> None:
    wire = Wire()
    assert begun_at_once(wire, *(wire.headers(1 + 2 * at) for at in range(8))) == EFFORT / STRANGER
    long = (*HEAD, ("x-long", "x" * 8_000))
    assert begun_at_once(wire, *(wire.headers(101 + 2 * at, long) for at in range(8))) == 2


def test_whose_calls_come_to_nothing_again_and_again_yields_to_others_though_it_is_known() -> None:
    """Row SEC23."""
    wire = Wire(accept=1_024)
    wire.say(wire.headers(1))
    for number in range(3, 3 + 2 * VAIN, 2):
        wire.say(wire.headers(number), data(message(b"refuse"), number))
        assert not wire.http.yields, "some may be refused"
    wire.say(wire.headers(99), frames.reset(99, ErrorCode.CANCEL))
    assert wire.http.yields
    assert not wire.http.closed
    assert begun_at_once(wire, *(wire.headers(101 + 2 * at) for at in range(8))) == EFFORT / STRANGER


def test_few_calls_a_minute_that_come_to_nothing_are_no_matter() -> None:
    wire = Wire(accept=1_024)
    for number in range(1, 201, 2):
        wire.say(wire.headers(number), data(message(b"refuse"), number))
        wire.now += 1.0
    assert not wire.http.yields


def test_many_initial_windows_in_one_frame_are_one_change() -> None:
    wire = Wire()
    wire.say(wire.headers(), window(1, 1))
    values = struct.pack(
        ">HIHI", frames.SETTINGS_INITIAL_WINDOW_SIZE, 2**31 - 1, frames.SETTINGS_INITIAL_WINDOW_SIZE, 9
    )
    wire.say(frames.frame(frames.SETTINGS, 0, 0, values))
    assert not wire.http.closed, "the first of the two would have been too much for the stream"
    assert wire.calls[0].stream.window == 10


def test_a_call_that_is_over_waits_for_no_window() -> None:
    wire = Wire()
    wire.say(wire.headers(), window(100_000, 1))
    wire.calls[0].stream.send(b"x" * 200_000)
    wire.hear()
    assert wire.http.outbox.window == 0
    assert len(wire.http.outbox._queue) == 1
    wire.say(frames.reset(1, ErrorCode.CANCEL))
    assert not wire.http.outbox._queue


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
    """Row SEC26 of the hostile inputs."""
    wire = Wire()
    wire.say(said)
    assert wire.failure() == ErrorCode.ENHANCE_YOUR_CALM
