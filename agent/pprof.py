"""What the agent does and holds, as text: tasks and threads with their stacks, memory, a sampled profile (row C8).

The pages that Go's programs have under these names, in Python's terms. Imported when somebody asks: an agent that
nobody looks at pays nothing. Who may ask, and HTTP, are debug.py's.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import pathlib
import sys
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from types import FrameType
from typing import Any, Final

from wire import decimal

MOST_SECONDS: Final = 60
"""How long one question may look: the status port gives no answer later than 120 s."""
_DEFAULT_SECONDS: Final = 30
"""As in Go."""
_PERIOD: Final = 0.01
_TOP: Final = 40
_DEPTH: Final = 100
_STATUS: Final = pathlib.Path("/proc/self/status")
_FACTS: Final = ("VmHWM", "VmRSS", "RssAnon", "RssFile", "VmSwap", "Threads")
ABSENT: Final[Mapping[str, str]] = {
    "block": "Python counts no waiting for locks; goroutine shows what each task waits for",
    "mutex": "Python counts no contention of locks; goroutine shows what each thread does",
    "symbol": "there are no addresses to look up: stacks come with names",
    "threadcreate": "Python keeps no stacks of where threads began; goroutine has all threads",
    "trace": "Python has no execution trace; profile samples what runs",
}
"""Go's other pages, and why they are not here."""


class QuestionError(ValueError):
    """What is asked for cannot be given; the message says why."""


class BusyError(Exception):
    """Somebody else is being answered: two profiles would measure each other."""


_busy = threading.Lock()
Asked = Mapping[str, str]


async def goroutine(_: Asked) -> str:
    """All tasks and threads, with their stacks; innermost last."""
    tasks = sorted(asyncio.all_tasks(), key=lambda each: each.get_name())
    threads = {each.ident: each.name for each in threading.enumerate()}
    frames = sys._current_frames()  # noqa: SLF001 (documented, and the only way to another thread's stack)
    parts = [f"goroutine profile: {len(tasks)} asyncio tasks and {len(frames)} threads of Python, no goroutines\n"]
    for task in tasks:
        parts.append(f"\ntask {task.get_name()}:\n")
        parts += (f"    {_place(each)}\n" for each in _awaited(task.get_coro()))
    for ident, frame in frames.items():
        parts.append(f"\nthread {threads.get(ident, ident)}:\n")
        parts += (f"    {_place(each)}\n" for each in _stack(frame))
    return "".join(parts)


async def heap(asked: Asked) -> str:
    """Memory of the process and objects by type; with ``seconds`` also what is allocated meanwhile and kept."""
    seconds = _seconds(asked, 0)
    if asked.get("gc", "0") not in ("", "0"):
        gc.collect()
    parts = ["heap profile: an agent in Python; kB as the kernel counts them, objects as its garbage collector does\n"]
    parts += (line for line in _STATUS.read_text().splitlines(keepends=True) if line.partition(":")[0] in _FACTS)
    counts, sizes = Counter[str](), Counter[str]()
    for each in gc.get_objects():
        name = f"{type(each).__module__}.{type(each).__qualname__}"
        counts[name] += 1
        sizes[name] += sys.getsizeof(each)
    parts.append(f"\n{sum(counts.values())} objects that can hold others, {sum(sizes.values())} bytes without these:\n")
    parts += (f"{size:>12} bytes {counts[name]:>8} {name}\n" for name, size in sizes.most_common(_TOP))
    if seconds:
        parts += await _allocated(seconds)
    return "".join(parts)


async def _allocated(seconds: int) -> list[str]:
    with _alone():
        tracemalloc.start()
        try:
            await asyncio.sleep(seconds)
            found = tracemalloc.take_snapshot().statistics("lineno")
        finally:
            tracemalloc.stop()
    said = f"\n{sum(each.size for each in found)} bytes were allocated within {seconds} s and are held:\n"
    return [said, *(f"{each.size:>12} bytes {each.count:>8} {each.traceback[0]}\n" for each in found[:_TOP])]


async def profile(asked: Asked) -> str:
    """Where the threads were, looked at a hundred times a second, in the form that makers of flame graphs read."""
    seconds = _seconds(asked, _DEFAULT_SECONDS) or _DEFAULT_SECONDS
    stacks, over = Counter[str](), threading.Event()
    with _alone():
        before = time.process_time()
        sampler = threading.Thread(target=_sample, args=(stacks, over), name="profile", daemon=True)
        sampler.start()
        try:
            await asyncio.sleep(seconds)
        finally:
            over.set()
            sampler.join()
        used = time.process_time() - before
    head = (
        f"# profile of {seconds} s: {sum(stacks.values())} samples, {used:.3f} s of CPU in all threads\n"
        f"# each {_PERIOD * 1000:g} ms where every thread of Python was, also while it waited (select, wait)\n"
        "# THREAD;OUTERMOST;...;INNERMOST SAMPLES, as flamegraph.pl and speedscope read them\n"
    )
    return head + "".join(f"{stack} {count}\n" for stack, count in stacks.most_common())


def _sample(stacks: Counter[str], over: threading.Event) -> None:
    own = threading.get_ident()
    while not over.wait(_PERIOD):
        threads = {each.ident: each.name for each in threading.enumerate()}
        for ident, frame in sys._current_frames().items():  # noqa: SLF001 (as above)
            if ident != own:
                stacks[";".join((str(threads.get(ident, ident)), *map(_brief, _stack(frame))))] += 1


async def cmdline(_: Asked) -> str:
    """The program's words with zero bytes between them, as in Go."""
    return "\0".join(sys.orig_argv)


PAGES: Final[Mapping[str, Callable[[Asked], Awaitable[str]]]] = {
    "allocs": heap,
    "cmdline": cmdline,
    "goroutine": goroutine,
    "heap": heap,
    "profile": profile,
}


def index() -> str:
    """What there is."""
    said = {
        "allocs, heap": "memory by the kernel and by types of objects; ?gc=1 collects before, "
        f"?seconds=N (1 to {MOST_SECONDS}) adds what is allocated meanwhile",
        "cmdline": "the words that the agent was started with",
        "goroutine": "asyncio's tasks and Python's threads, with their stacks",
        "profile": f"?seconds=N (1 to {MOST_SECONDS}, else {_DEFAULT_SECONDS}): stacks, with how often each was seen",
    }
    lines = [*(f"{name}: {text}\n" for name, text in said.items())]
    lines += (f"{name}: is not there: {reason}\n" for name, reason in ABSENT.items())
    return "/debug/pprof/ of an agent in Python\n\n" + "".join(lines)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """One at a time.

    Raises:
        BusyError: somebody else is being answered.
    """
    if not _busy.acquire(blocking=False):
        raise BusyError("another profile is being taken")
    try:
        yield
    finally:
        _busy.release()


def _seconds(asked: Asked, default: int) -> int:
    """How long to look.

    Raises:
        QuestionError: it is no number, or too long.
    """
    said = asked.get("seconds", "")
    found = decimal.number(said) if said else default
    if found is None or found > MOST_SECONDS:
        raise QuestionError(f"seconds={said}: a number up to {MOST_SECONDS} is needed")
    return found


def _awaited(coroutine: Any) -> Iterator[FrameType]:
    """Frames of a coroutine and of what it waits for: a suspended task's own stack has the outermost only."""
    for _ in range(_DEPTH):
        frame = next((f for part in ("cr", "gi", "ag") if (f := getattr(coroutine, f"{part}_frame", None))), None)
        if frame is None:
            return
        yield frame
        waits = ("cr_await", "gi_yieldfrom", "ag_await")
        coroutine = next((c for part in waits if (c := getattr(coroutine, part, None)) is not None), None)


def _stack(frame: FrameType | None) -> list[FrameType]:
    found: list[FrameType] = []
    while frame is not None and len(found) < _DEPTH:
        found.append(frame)
        frame = frame.f_back
    return found[::-1]


def _place(frame: FrameType) -> str:
    return f"{frame.f_code.co_qualname} {frame.f_code.co_filename}:{frame.f_lineno}"


def _brief(frame: FrameType) -> str:
    return f"{frame.f_globals.get('__name__', '?')}.{frame.f_code.co_qualname}"
