"""The server's own epoll on real sockets."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from istiod.grpcserver.poll import NOTHING, READ, WRITE, Poll
from tests.waiting import until


class Ear:
    """Counts what it is told; raises or ends another where it is asked to."""

    def __init__(self, poll: Poll, *, bug: bool = False) -> None:
        self.poll = poll
        self.ours, self.theirs = socket.socketpair()
        self.ours.settimeout(0)
        self.number = self.ours.fileno()
        self.reads = self.writes = 0
        self.ends: list[Ear] = []
        self._bug = bug

    def readable(self) -> None:
        self.reads += 1
        for other in self.ends:
            other.wait(NOTHING)
        if self._bug:
            raise ZeroDivisionError

    def writable(self) -> None:
        self.writes += 1
        self.wait(READ)

    def wait(self, what: int) -> None:
        self.poll.watch(self.number, self, what)

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()


@contextlib.contextmanager
def polling(count: int, *, bug: bool = False) -> Iterator[list[Ear]]:
    poll = Poll()
    with contextlib.ExitStack() as stack:
        stack.callback(poll.close)
        ears = [Ear(poll, bug=bug) for _ in range(count)]
        for ear in ears:
            stack.callback(ear.close)
        yield ears


async def test_each_is_told_of_what_it_waits_for_and_of_nothing_else() -> None:
    with polling(2) as (one, other):
        one.wait(READ | WRITE)
        other.wait(READ)
        await until(lambda: one.writes == 1, "there is room")
        assert (one.reads, other.reads, other.writes) == (0, 0, 0)
        other.theirs.send(b"x")
        await until(lambda: other.reads > 1, "it is told again while nobody takes it")
        other.wait(NOTHING)
        heard = other.reads
        one.theirs.send(b"x")
        await until(lambda: one.reads > 3, "the loop goes round")
        assert other.reads == heard


async def test_who_is_gone_and_waits_for_nothing_keeps_nobody_awake() -> None:
    with polling(2) as (gone, other):
        gone.wait(READ)
        gone.wait(NOTHING)
        gone.theirs.close()
        other.wait(READ)
        other.theirs.send(b"x")
        await until(lambda: other.reads > 3, "the loop goes round")
        assert gone.reads == 0
        gone.wait(READ)
        await until(lambda: gone.reads > 0, "it is told when it asks")


async def test_who_was_ended_by_another_a_moment_before_is_not_told() -> None:
    with polling(2) as ears:
        for ear, other in zip(ears, reversed(ears), strict=True):
            ear.ends.append(other)
            ear.wait(READ)
            ear.theirs.send(b"x")
        await until(lambda: sum(ear.reads for ear in ears) > 3, "one of them is told")
        assert min(ear.reads for ear in ears) == 0


async def test_a_bug_keeps_nobody_else_from_being_told(caplog: pytest.LogCaptureFixture) -> None:
    with polling(3, bug=True) as ears:
        for ear in ears:
            ear.wait(READ)
            ear.theirs.send(b"x")
        await until(lambda: all(ear.reads > 0 for ear in ears), "all are told")
    assert "ZeroDivisionError" in caplog.text


async def test_closed_it_tells_nobody_and_may_be_closed_again() -> None:
    with polling(1) as (ear,):
        ear.wait(READ)
        ear.poll.close()
        ear.theirs.send(b"x")
    assert ear.reads == 0
    Poll().close()
