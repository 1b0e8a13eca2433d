"""Messages that many streams send: cut once, whole for each, whatever its windows are and whenever it reads."""

from __future__ import annotations

from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from istiod.grpcserver import cuts, frames
from istiod.grpcserver.cuts import AGE, LEAST, MOST, PAYLOAD, UNIT, Cuts
from tests.grpcserver.wire import Wire, body, data, message

PART = bytes(range(256)) * 1_200
WHOLE = message(PART + b"tail")


def window(count: int, stream: int = 0) -> bytes:
    return frames.window_update(stream, count)


def opened(shared: Cuts, *, room: int = 1 << 20, stream: int = 1) -> Wire:
    wire = Wire(cuts=shared)
    wire.say(wire.headers(stream), window(room), window(room, stream))
    wire.hear()
    return wire


def send(wire: Wire, *parts: bytes) -> None:
    wire.calls[0].stream.send(*parts)


def test_what_a_second_stream_sends_is_not_copied_for_a_third() -> None:
    shared = Cuts()
    for turn in range(4):
        wire = opened(shared)
        send(wire, PART, b"tail")
        taken = list(iter(partial(wire.http.take, 4 * UNIT), b""))
        assert b"".join(taken).endswith(b"tail")
        views = [one for one in taken if isinstance(one, memoryview)]
        assert len(views) == (0 if turn == 0 else len(taken) - 2), (
            "all but the first, with the answer's head, and the end"
        )
        assert {id(one.obj) for one in views} <= {id(of.obj) for of in [shared.of(PART, len(PART) + 4, 1)] if of}
        assert all(len(one) % UNIT == 0 for one in views)
        assert wire.calls[0].events == ["drained"]
        assert wire.calls[0].stream.taken == len(WHOLE)


@given(
    steps=st.lists(st.integers(5_000, 200_000), min_size=1, max_size=4),
    limits=st.lists(st.integers(5_000, 200_000), min_size=1, max_size=4),
    size=st.integers(LEAST, LEAST + 5 * UNIT) | st.integers(4, 8).map(lambda count: count * PAYLOAD - 5),
    tail=st.integers(0, 40_000),
    asides=st.lists(st.booleans(), min_size=1, max_size=4),
)
def test_each_stream_has_the_message_whole_however_its_windows_grow(
    steps: list[int], limits: list[int], size: int, tail: int, asides: list[bool]
) -> None:
    shared, part, rest = Cuts(), PART[:size], bytes(tail)
    for _ in range(3):
        wire = Wire(cuts=shared)
        wire.say(wire.headers(), wire.headers(3))
        call, aside = (one.stream for one in wire.calls)
        call.send(part, rest)
        call.send(b"next")
        found = []
        for turn in range(1_000):
            if asides[turn % len(asides)]:
                aside.send(b"a" * 100)
            found += wire.hear(limits[turn % len(limits)])
            if not (call.pending or aside.pending):
                break
            wire.say(*(window(steps[turn % len(steps)], stream) for stream in (0, 1, 3)))
        assert body(found) == message(part + rest) + message(b"next")
        assert body(found, 3) == message(b"a" * 100) * (len(body(found, 3)) // 105)
        assert all(len(one.payload) <= frames.MAX_FRAME for one in found)
        assert call.taken == len(part) + len(rest) + 14
        assert not wire.http.closed


def test_other_lengths_and_other_streams_have_frames_of_their_own() -> None:
    shared = Cuts()
    for _ in range(2):
        for number, tail in ((1, b"tail"), (1, b"other tail"), (3, b"tail")):
            wire = opened(shared, stream=number)
            send(wire, PART, tail)
            assert body(wire.hear(), number) == message(PART + tail)
    assert shared.size == 3 * (cuts.taken(PART) + 5) // PAYLOAD * UNIT


def test_a_stream_that_is_given_up_takes_nothing_from_others() -> None:
    shared = Cuts()
    for _ in range(2):
        wire = opened(shared)
        send(wire, PART, b"tail")
    wire.http.take(2 * UNIT)
    wire.say(frames.reset(1, frames.ErrorCode.CANCEL))
    assert body(wire.hear()) == b""
    other = opened(shared)
    send(other, PART, b"tail")
    assert body(other.hear()) == WHOLE


def test_frames_that_a_client_answers_count_for_it_one_by_one() -> None:
    shared = Cuts()
    earned = []
    for _ in range(2):
        wire = opened(shared)
        before = wire.http.outbox.earned
        send(wire, PART, b"tail")
        wire.hear()
        earned.append(wire.http.outbox.earned - before)
    assert abs(earned[0] - earned[1]) <= 1
    wire.say(*(window(1) for _ in range(40)), data(message(b"x")))
    assert not wire.http.closed


def test_small_messages_and_those_of_one_stream_are_never_kept() -> None:
    shared = Cuts()
    for size in (0, 10, LEAST - 1):
        small = bytes(size)
        assert shared.of(small, size, 1) is None
        assert shared.of(small, size, 1) is None
    for _ in range(2 * MOST):
        assert shared.of(bytes(LEAST), LEAST, 1) is None
    assert shared.size == 0


def test_there_is_room_for_the_newest() -> None:
    parts = [bytes(LEAST) + bytes((number,)) for number in range(4)]
    shared = Cuts(room=10 * UNIT)
    for part in parts:
        for _ in range(2):
            shared.of(part, len(part), 1)
        assert shared.size <= 10 * UNIT
    assert shared.of(parts[-1], len(parts[-1]), 1) is not None


def test_what_nobody_sends_any_more_goes() -> None:
    shared = Cuts()
    for part in (PART, PART[:-1]):
        shared.of(part, len(part), 1)
        shared.of(part, len(part), 1)
    both = shared.size
    for _ in range(AGE):
        shared.age()
    kept = [part for part in (PART,) if shared.of(part, len(part), 1)]
    shared.age()
    assert kept
    assert shared.size * 2 == both


def test_a_window_that_shrinks_while_a_stream_waits_holds_its_frames_back() -> None:
    shared = Cuts()
    opened(shared).calls[0].stream.send(PART, b"tail")
    wire = Wire(cuts=shared)
    wire.say(wire.headers(), window(1 << 20))
    send(wire, PART, b"tail")
    wire.say(frames.settings({frames.SETTINGS_INITIAL_WINDOW_SIZE: 0}))
    assert body(wire.hear()) == b""
    wire.say(window(1 << 20, 1))
    assert body(wire.hear()) == WHOLE
