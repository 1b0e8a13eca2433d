"""Standard error that nobody waits for: a log that is not read must not stop the event loop (fault FT60).

A thread writes what was said. While nobody reads, so many characters wait, and what comes beyond is dropped, counted,
and told of when somebody reads again.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, TextIO, cast

from wire import exposition
from wire.exposition import Family

MOST: Final = 1_000_000
"""Characters that may wait."""
PATIENCE: Final = 1.0
"""Seconds that the end of the process waits for what is left."""


class Unblocked(io.TextIOBase):
    """A text stream whose ``write`` returns at once; ``emit`` may take as long as it likes, in a thread."""

    def __init__(self, emit: Callable[[str], object], most: int = MOST) -> None:
        super().__init__()
        self._emit = emit
        self._most = most
        self._waiting: deque[str] = deque()
        self._size = 0
        self._told = 0
        self._changed = threading.Condition()
        self._over = False
        self.dropped = 0
        """Lines that were not written."""
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def writable(self) -> bool:
        """See io.IOBase."""
        return True

    def write(self, text: str, /) -> int:
        """Take a text, or drop it."""
        with self._changed:
            if self._size + len(text) > self._most:
                self.dropped += text.count("\n")
            else:
                self._size += len(text)
                self._waiting.append(text)
                self._changed.notify()
        return len(text)

    def family(self) -> Family:
        """For /metrics."""
        text = "Lines of the log that were dropped since nobody read it."
        return exposition.of("pilot_log_lines_dropped_total", "counter", text, self.dropped)

    def finish(self, seconds: float = PATIENCE) -> None:
        """Write what waits, as far as that is possible in so many seconds; afterwards nothing is written."""
        with self._changed:
            self._over = True
            self._changed.notify()
        self._thread.join(seconds)

    def _run(self) -> None:
        while (text := self._next()) is not None:
            with contextlib.suppress(OSError, ValueError):  # whoever read it is gone
                self._emit(text)

    def _next(self) -> str | None:
        """What is to be written now; waits for it. None at the end."""
        with self._changed:
            while not self._waiting and not self._over:
                self._changed.wait()
            if not self._waiting:
                return None
            text = "".join(self._waiting)
            self._waiting.clear()
            self._size = 0
            if missing := self.dropped - self._told:
                self._told = self.dropped
                text += f"istiod: {missing} lines of the log were dropped here: nobody read it\n"
            return text


@contextlib.contextmanager
def stderr() -> Iterator[Unblocked]:
    """Standard error of this process, until the block ends."""
    before = sys.stderr
    before.flush()
    made = Unblocked(_writer(before))
    sys.stderr = cast("TextIO", made)
    try:
        yield made
    finally:
        sys.stderr = before
        made.finish()


@contextlib.contextmanager
def logged() -> Iterator[Unblocked]:
    """The same, with warnings of all loggers in it."""
    with stderr() as made:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        logging.getLogger().addHandler(handler)
        try:
            yield made
        finally:
            logging.getLogger().removeHandler(handler)


def _writer(stream: TextIO) -> Callable[[str], object]:
    """Writes past the stream's buffer, whose lock would keep the interpreter from ending while a write hangs."""
    try:
        number = stream.fileno()
    except (OSError, ValueError):  # it is no file, as in a test
        return stream.write

    def write(text: str) -> None:
        data = text.encode(errors="replace")
        while data:
            try:
                data = data[os.write(number, data) :]
            except BlockingIOError:  # somebody who shares it made it so
                time.sleep(0.05)

    return write
