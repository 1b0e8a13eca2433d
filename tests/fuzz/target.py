"""What a fuzz target is, and how it is judged: an answer or one of its refusals, in bounded time.

A target takes any bytes. What a parser may raise for bad input is what its docstring says; everything else is a crash,
and its bytes become a file in tests/fuzz/cases/TARGET/ that is tried for ever.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import pathlib
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

CASES = pathlib.Path(__file__).parent / "cases"
LARGEST = 64 * 1024
"""Bytes of an input."""
LONGEST = 5.0
"""Seconds of CPU for one input: what would keep an event loop as long is a denial of service. Most take
milliseconds; the rest is for slow machines, and for tracing."""
WORDS = (
    *(b"\0", b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\r\n", b"\n", b"\n---\n", b"{{", b"}}", b"${", b"%00", b"%2f"),
    *(b"-1", b"0", b"1e309", b"-0.0", b"9" * 20, b"9" * 5000, b"NaN", b"Infinity", b"0x7fffffffffffffff", b"1_0"),
    *(b"null", b"true", b"[]", b"{}", b'""', b'"', b"'", b"[" * 3000, b'{"a":' * 3000, b"(" * 500, b"a" * 5000),
    *(b"&a [*a]", b"!!python/object:x", b"<<: *a", b"? - :", b"\\ud800", b"\\u0000", b"~", b"|", b":", b",", b"="),
    *(b"\x80" * 9 + b"\x01", b"\x0a\xff\xff\xff\xff\x0f", b"\xc0\x0c", b"spiffe://", b"Bearer ", b"::1", b"[::"),
    *(c.encode() for c in "\N{ARABIC-INDIC DIGIT ONE}\N{SUPERSCRIPT TWO}\N{LINE SEPARATOR}"),
    *(b"../", b"*"),
)


class TooSlowError(AssertionError):
    """An input took longer than LONGEST."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A parser of outside input.

    Attributes:
        name: Of the folder of its cases.
        call: Gives it bytes.
        refusals: What it may raise: its own errors, never those of a library.
        seeds: Good and nearly good inputs. Together they enter each function of the parser (test_complete.py).
    """

    name: str
    call: Callable[[bytes], object]
    refusals: tuple[type[Exception], ...] = ()
    seeds: tuple[bytes, ...] = ()

    def cases(self) -> list[pathlib.Path]:
        """Inputs that it once failed at."""
        return sorted((CASES / self.name).glob("*"))

    def judge(self, raw: bytes) -> bool:
        """Whether an input was taken, and not refused.

        Raises:
            TooSlowError: that took too long.
            Exception: whatever it crashed with.
        """
        began = time.process_time()
        try:
            self.call(raw)
        except self.refusals:
            taken = False
        else:
            taken = True
        if (spent := time.process_time() - began) > LONGEST:
            raise TooSlowError(f"{self.name}: {spent:.1f} s for {len(raw)} bytes")
        return taken


def mutated(seeds: Iterable[bytes], choice: random.Random) -> bytes:
    """An input near one of the seeds: bytes changed, words put in, parts doubled, left out or taken from another."""
    several = list(seeds) or [b""]
    raw = bytearray(choice.choice(several))
    for _ in range(choice.choice((0, 1, 1, 2, 3, 8))):
        at = choice.randint(0, len(raw))
        end = min(len(raw), at + choice.choice((0, 1, 1, 2, 4, 16, 200)))
        match choice.randint(0, 5):
            case 0:
                raw[at:end] = choice.randbytes(end - at)
            case 1:
                raw[at:end] = choice.choice(WORDS)
            case 2:
                raw[at:at] = choice.choice(WORDS)
            case 3:
                del raw[at:end]
            case 4:
                raw[at:at] = raw[at:end] * choice.choice((1, 2, 50))
            case 5:
                other = choice.choice(several)
                start = choice.randint(0, len(other))
                raw[at:end] = other[start : start + choice.choice((1, 8, 64))]
    return bytes(raw[:LARGEST])


def text(raw: bytes) -> str:
    """As text, whatever it is."""
    return raw.decode("utf-8", "replace")


def parts(raw: bytes, count: int, sign: bytes = b"\x1f") -> list[str]:
    """So many texts out of one input, separated by a sign that seeds use and mutations keep."""
    found = [text(each) for each in raw.split(sign, count - 1)]
    return [*found, *[""] * (count - len(found))]


def joined(*texts: str) -> bytes:
    """The inverse of ``parts``."""
    return b"\x1f".join(each.encode() for each in texts)


def run(made: Awaitable[Any]) -> Any:
    """Wait for it in an event loop of its own; what fails in a task of the server's fails here."""
    failed: list[BaseException] = []

    def told(_: object, said: dict[str, Any]) -> None:
        error = said.get("exception")
        if not isinstance(error, asyncio.CancelledError):  # a server that is over
            failed.append(error or AssertionError(said["message"]))

    async def wait() -> Any:
        asyncio.get_running_loop().set_exception_handler(told)
        return await made

    found = asyncio.run(wait())
    if failed:
        raise failed[0]
    return found


def quiet() -> None:
    """What parsers log of bad input is of no interest here, but its formatting has to work."""
    root = logging.getLogger()
    root.handlers = [_Formatting()]


class _Formatting(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        record.getMessage()


ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 80, 65536, 2**31, 2**63, -(2**63) - 1, 1.5, -0.0, 1e300, "", " ", "*", ".", "*."),
    *("a", "a.b", "-", "/", "//", "~", "a*b", "**", "{*}", "a/b", "./*", "*/*", "0s", "-1s", "1s", "1e9h", "1", "80"),
    *("10.0.0.0/8", "::/0", "1.2.3.4", "fe80::1%x", "http://[", "https://a.b:99999/", "127.0.0.1:" + "9" * 5_000),
    *("\0", "\n", "\r\nx: y", "\ud800", "a" * 5_000, "9" * 5_000, "(" * 200, "(a+)+$", "\\", "%s%n", "{{.}}", "${x}"),
    *("a=b", "=", ",", "a,b", "[", "{", *"\N{ARABIC-INDIC DIGIT ONE}\N{SUPERSCRIPT TWO}\N{LINE SEPARATOR}"),
    *([], [None], [[]], [{}], ["*"], ["a", "a"], {}, {"a": None}, {"": ""}, {"a": {"b": []}}, {"exact": "a"}),
)
"""Values that a field does not expect."""
_EDIT = 3


def edited(documents: list[Any], raw: bytes) -> list[Any]:
    """Documents with parts replaced, left out, doubled or moved to another place: three bytes say what."""
    found = copy.deepcopy(documents)
    for at in range(0, min(len(raw), 20 * _EDIT) - _EDIT + 1, _EDIT):
        places = list(_places(found))
        if not places:
            break
        holder, step = places[int.from_bytes(raw[at : at + 2], "big") % len(places)]
        _edit(holder, step, raw[at + 2], places)
    return found


def _edit(holder: Any, step: Any, what: int, places: list[tuple[Any, Any]]) -> None:
    if what < len(ODD):
        holder[step] = copy.deepcopy(ODD[what])
    elif what % 4 == 0:
        del holder[step]
    elif what % 4 == 1:
        holder[step] = [copy.deepcopy(holder[step]) for _ in range(3)]
    else:
        other, there = places[what * 7 % len(places)]
        holder[step] = copy.deepcopy(other[there])


def _places(part: Any) -> Iterator[tuple[Any, Any]]:
    steps = range(len(part)) if isinstance(part, list) else list(part) if isinstance(part, dict) else ()
    for step in steps:
        yield part, step
        yield from _places(part[step])
