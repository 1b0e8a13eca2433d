"""Long-running programs of a test cluster: started with a log of their own, ended by pid, never left behind."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_STEP: Final = 0.05  # seconds between two looks at a condition
_TAIL: Final = 2000  # characters of a log that an error shows


class ClusterError(Exception):
    """A part of the cluster ended, or did not become ready in time; the message holds the end of its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A running program. ``log`` holds what it prints."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """Raise ClusterError if it has ended."""
        code = self.process.poll()
        if code is not None:
            raise ClusterError(f"{self.name} ended with {code}: {self.tail()}")

    def tail(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-_TAIL:]


@contextmanager
def running(
    name: str, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Program]:
    """A program until the block ends; it is killed, as nothing of a test cluster is worth keeping.

    It also ends when this process does, however that happens.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
    try:
        yield Program(name=name, process=process, log=log)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()


def wait(what: str, condition: Callable[[], bool], programs: Sequence[Program] = (), seconds: float = 60) -> None:
    """Return when ``condition`` holds.

    Raises:
        ClusterError: it does not within ``seconds``, or one of ``programs`` ended meanwhile.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        for program in programs:
            program.check()
        if time.monotonic() > deadline:
            logs = "".join(f"\n{program.name}: {program.tail()}" for program in programs)
            raise ClusterError(f"{what}: not within {seconds:.0f} s{logs}")
        time.sleep(_STEP)
