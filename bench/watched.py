"""``python -m bench.watched FILE discovery ...``: istiod with a timer in its event loop that notes how late it is.

Each turn of the timer adds a record to FILE (see ``read``). Wall time tells what a client feels, and depends on what
else the machine does; the CPU of the loop's own thread between two turns does not.
"""

from __future__ import annotations

import asyncio
import pathlib
import struct
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from istiod.__main__ import main

PERIOD: Final = 0.005
_RECORD: Final = struct.Struct("<ddd")


@dataclass(frozen=True, slots=True)
class Turn:
    """One of the timer. ``at``: monotonic seconds; ``late``: by how many; ``spent``: the thread's CPU meanwhile."""

    at: float
    late: float
    spent: float


def read(path: pathlib.Path) -> Iterator[Turn]:
    """What was noted by now."""
    data = path.read_bytes()
    whole = len(data) - len(data) % _RECORD.size
    return (Turn(*each) for each in _RECORD.iter_unpack(data[:whole]))


class _Watching(asyncio.DefaultEventLoopPolicy):
    """Gives the main thread a loop with the timer in it."""

    def __init__(self, path: pathlib.Path) -> None:
        super().__init__()
        self._path = path

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        made = super().new_event_loop()
        if threading.current_thread() is threading.main_thread():
            file = self._path.open("wb", buffering=0)  # closed by the process's end

            def turn(due: float, used: float) -> None:
                now, spent = time.monotonic(), time.thread_time()
                file.write(_RECORD.pack(now, now - due, spent - used))
                made.call_later(PERIOD, turn, now + PERIOD, spent)

            made.call_soon(turn, time.monotonic(), time.thread_time())
        return made


def run(argv: Sequence[str]) -> int:
    """Give the exit status of istiod. The first argument is the file."""
    asyncio.set_event_loop_policy(_Watching(pathlib.Path(argv[0])))
    return main(argv[1:])


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
