from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta

from crds.diagnostic import Diagnostic, Severity
from crds.key import SECURITY, ConfigKey
from istiod.config.key_sets import KeySource, Wish
from istiod.jwks.fetch import FetchError
from istiod.jwks.refresh import KEPT, MOST_OF_ONE, Refresher
from tests import waiting

KEY = ConfigKey(SECURITY, "RequestAuthentication", "default", "web")
SOURCE = KeySource(uri="https://keys.example/")
OTHER = KeySource(uri="", issuer="https://issuer.example")
DEADLINE = 20


def wish(*places: str) -> Wish:
    return Wish(timeout=timedelta(seconds=3), places=tuple((KEY, place) for place in places or ("spec.jwtRules[0]",)))


class Server:
    """Answers fetches, keeps what was put, and moves its own clock."""

    def __init__(self) -> None:
        self.answer: str | None = "keys"
        self.asked: list[tuple[KeySource, float]] = []
        self.kept: dict[KeySource, str] = {}
        self.found: tuple[Diagnostic, ...] = ()
        self.reports = 0
        self.now = 0.0
        self.refresher = Refresher(self.fetch, self.put, self.report, lambda: self.now, timedelta(minutes=20))

    async def fetch(self, source: KeySource, timeout: timedelta) -> str:  # noqa: ASYNC109 (the protocol's)
        self.asked.append((source, timeout.total_seconds()))
        if self.answer is None:
            raise FetchError("is down")
        return self.answer

    def put(self, source: KeySource, keys: str | None) -> None:
        self.kept.pop(source, None)
        if keys is not None:
            self.kept[source] = keys

    def report(self, found: tuple[Diagnostic, ...]) -> None:
        self.found = found
        self.reports += 1

    async def fetched_after(self, seconds: float) -> None:
        """Let time pass, have the refresher look, and wait for the fetch that follows."""
        asked = len(self.asked)
        self.now += seconds
        self.refresher._rounds.wake()
        states = self.refresher._rounds.questions
        await waiting.until(
            lambda: len(self.asked) > asked and all(s.task is None for s in states.values()), "fetched again"
        )


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[Server]:
    server = Server()
    task = asyncio.create_task(server.refresher.run())
    try:
        yield server
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_is_wanted_is_fetched_at_once_and_again_after_the_interval() -> None:
    async with running() as server:
        server.refresher.want({SOURCE: wish(), OTHER: wish()})
        await server.refresher.settled(DEADLINE)
        assert server.kept == {SOURCE: "keys", OTHER: "keys"}
        assert sorted(server.asked) == sorted([(SOURCE, 3.0), (OTHER, 3.0)])
        server.answer = "rotated"
        await server.fetched_after(20 * 60)
        await waiting.until(lambda: set(server.kept.values()) == {"rotated"}, "the fetch had its effect")
        assert server.found == ()


async def test_a_failure_is_told_of_each_rule_and_tried_again_soon_until_it_works() -> None:
    async with running() as server:
        server.answer = None
        server.refresher.want({SOURCE: wish("spec.jwtRules[0]", "spec.jwtRules[2]"), OTHER: wish()})
        await server.refresher.settled(DEADLINE)
        assert server.kept == {}
        assert {(d.field, d.severity) for d in server.found} == {
            ("spec.jwtRules[0].jwksUri", Severity.ERROR),
            ("spec.jwtRules[2].jwksUri", Severity.ERROR),
            ("spec.jwtRules[0].issuer", Severity.ERROR),
        }
        assert all("is down; tokens of this issuer are refused" in d.message for d in server.found)
        await server.fetched_after(1)
        await server.fetched_after(2)
        server.answer = "keys"
        await server.fetched_after(60)
        await waiting.until(lambda: server.found == () and len(server.kept) == 2, "the fetch had its effect")


async def test_the_last_keys_serve_for_a_week() -> None:
    """Row SEC53 of the hostile inputs."""
    async with running() as server:
        server.refresher.want({SOURCE: wish()})
        await server.refresher.settled(DEADLINE)
        server.answer = None
        await server.fetched_after(20 * 60)
        await waiting.until(lambda: server.found != (), "the fetch had its effect")
        assert [(d.severity, "the last keys serve" in d.message) for d in server.found] == [(Severity.WARNING, True)]
        assert server.kept == {SOURCE: "keys"}
        await server.fetched_after(KEPT)
        await waiting.until(lambda: server.kept == {}, "the fetch had its effect")
        await waiting.until(lambda: [d.severity for d in server.found] == [Severity.ERROR], "it is told")


async def test_what_nobody_wants_any_more_is_forgotten_also_while_it_is_fetched() -> None:
    async with running() as server:
        gate = asyncio.Event()
        plain = server.fetch

        async def held_up(source: KeySource, timeout: timedelta) -> str:  # noqa: ASYNC109 (the protocol's)
            found = await plain(source, timeout)
            await gate.wait()
            return found

        server.refresher._fetch = held_up
        wishes = {SOURCE: wish()}
        server.refresher.want(wishes)
        await waiting.until(lambda: bool(server.asked), "the fetch had its effect")
        await server.refresher.settled(0.01)
        assert server.kept == {}
        server.refresher.want({})
        gate.set()
        await server.refresher.settled(DEADLINE)
        assert server.kept == {}
        server.refresher.want(wishes)
        server.refresher.want(wishes)
        await server.refresher.settled(DEADLINE)
        assert server.kept == {SOURCE: "keys"}
        server.refresher.want({})
        assert server.kept == {}


async def test_a_fetch_that_is_under_way_ends_with_the_refresher() -> None:
    async with running() as server:

        async def never(source: KeySource, timeout: timedelta) -> str:  # noqa: ASYNC109 (the protocol's)
            server.asked.append((source, timeout.total_seconds()))
            await asyncio.Event().wait()
            return ""

        server.refresher._fetch = never
        server.refresher.want({SOURCE: wish()})
        await waiting.until(lambda: bool(server.asked), "the fetch had its effect")
        (state,) = server.refresher._rounds.questions.values()
        task = state.task
        assert task is not None
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()


def crowd(namespace: str, count: int) -> dict[KeySource, Wish]:
    key = ConfigKey(SECURITY, "RequestAuthentication", namespace, "web")
    places = ((key, "spec.jwtRules[0]"),)
    return {
        KeySource(uri=f"https://{number}.{namespace}.example/"): Wish(timeout=timedelta(minutes=1), places=places)
        for number in range(count)
    }


async def test_servers_that_say_nothing_hold_up_nobody_in_other_namespaces() -> None:
    async with running() as server:
        plain = server.fetch

        async def silent(source: KeySource, timeout: timedelta) -> str:  # noqa: ASYNC109 (the protocol's)
            if "hostile" in source.uri:
                await asyncio.Event().wait()
            return await plain(source, timeout)

        server.refresher._fetch = silent
        named_too = dict.fromkeys(crowd("shared", 1), Wish(timeout=timedelta(1), places=()))
        for space in ("hostile", "victim"):
            (wanted,) = crowd(space, 1).values()
            named_too = {
                one: Wish(timeout=w.timeout, places=(*w.places, *wanted.places)) for one, w in named_too.items()
            }
        server.refresher.want({**crowd("hostile", 300), **crowd("shop", 10), **named_too})
        await waiting.until(lambda: len(server.kept) == 11, "all others have their keys")


async def test_what_many_fetches_come_to_is_told_together_and_once() -> None:
    async with running() as server:
        server.answer = None
        server.refresher.want({source: w for space in range(25) for source, w in crowd(f"n{space}", 8).items()})
        await server.refresher.settled(DEADLINE)
        assert len(server.found) == 200
        assert server.reports < 50
        told = server.reports
        await server.fetched_after(2)
        await waiting.until(lambda: len(server.asked) == 400, "all failed again")
        await server.refresher.settled(DEADLINE)
        assert server.reports == told, "with nothing new"


async def test_a_namespace_has_a_hundred_key_sets_and_keeps_those_that_it_has() -> None:
    async with running() as server:
        had = dict(list(crowd("shop", MOST_OF_ONE + 5).items())[5:])
        server.refresher.want(had)
        await waiting.until(lambda: len(server.kept) == MOST_OF_ONE, "all come")
        server.refresher.want({**crowd("shop", MOST_OF_ONE + 5), **crowd("other", 1)})
        await waiting.until(lambda: len(server.kept) == MOST_OF_ONE + 1, "the other's comes")
        assert had.keys() < server.kept.keys()
        await server.refresher.settled(DEADLINE)
        assert [d.severity for d in server.found] == [Severity.ERROR] * 5
        assert all("at most 100 key sets" in d.message for d in server.found)
        server.refresher.want(had)
        assert server.found == ()
