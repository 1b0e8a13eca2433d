"""One connection frame by frame: calls, windows and ends."""

from __future__ import annotations

import pytest

from istiod.grpcserver import frames
from istiod.grpcserver.frames import ErrorCode
from istiod.grpcserver.http2 import MAX_STREAMS
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


def test_bytes_may_come_one_by_one() -> None:
    wire = Wire(greet=False, echo=True)
    said = frames.PREFACE + frames.settings({}) + wire.headers() + data(message(b"hello"))
    for at in range(len(said)):
        wire.say(said[at : at + 1])
    assert body(wire.hear()) == message(b"hello")


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


def test_pings_are_answered_and_answers_are_not() -> None:
    wire = Wire()
    wire.say(ping())
    (pong,) = wire.hear()
    assert (pong.flags, pong.payload) == (frames.ACK, b"12345678")
    wire.http.ping()
    (asked,) = wire.hear()
    wire.say(ping(asked.payload, frames.ACK))
    assert wire.hear() == []


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


def test_a_window_that_shrinks_holds_back_what_is_not_framed_yet() -> None:
    wire = Wire()
    wire.say(wire.headers())
    wire.calls[0].stream.send(b"x" * 50_000)
    wire.say(frames.settings({frames.SETTINGS_INITIAL_WINDOW_SIZE: 0}))
    assert kinds(wire.hear()) == [frames.SETTINGS]
    wire.say(frames.settings({frames.SETTINGS_INITIAL_WINDOW_SIZE: WINDOW}))
    assert body(wire.hear()) == message(b"x" * 50_000)


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
    wire.say(window(10, 1), window(1_000_000, 1))
    assert body(first) + body(wire.hear()) == message(b"x" * 100_000)
    assert not stream.pending
    assert wire.calls[0].events == ["drained"]
    assert stream.turn == 1


@pytest.mark.parametrize("size", [3 * 16_384 - 5, 3 * 16_384, 3 * 16_384 + 1])
@pytest.mark.parametrize("limit", [16_384, 40_000, 1 << 20])
def test_a_large_message_is_cut_into_full_frames_and_one_that_ends_it(size: int, limit: int) -> None:
    wire = Wire()
    wire.say(wire.headers(), window(1 << 20), window(1 << 20, 1))
    stream = wire.calls[0].stream
    stream.send(bytes(size), b"tail")
    found = wire.hear(limit=limit)
    assert body(found) == message(bytes(size) + b"tail")
    assert (stream.pending, stream.turn, stream.taken) == (False, 1, size + 9)
    assert wire.calls[0].events == ["drained"]
    if limit == 1 << 20:
        lengths = [len(one.payload) for one in found if one.kind == frames.DATA]
        assert lengths == [16_384] * ((size + 9) // 16_384) + [(size + 9) % 16_384]


def test_a_take_is_no_larger_than_asked_heads_of_frames_included() -> None:
    wire = Wire()
    wire.say(wire.headers(), window(1 << 20), window(1 << 20, 1))
    wire.calls[0].stream.send(bytes(200_000))
    first, *others = iter(lambda: wire.http.take(65_536), b"")
    assert len(first) <= 65_536 + len(frames.response(1, no_table=True))
    assert [len(one) for one in others[:-1]] == [65_536] * (len(others) - 1)  # four records of TLS each, and no fifth


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
