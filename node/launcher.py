"""Starts containers' commands through node/launch.py, and finds the processes that are left of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pathlib
import secrets
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field

from node.errors import LaunchError
from node.podspec import Rights

_PROGRAM = pathlib.Path(__file__).with_name("launch.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bind:
    """A file or folder of the host at a path of the container."""

    source: str
    target: str
    read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """All that node/launch.py needs to become a container's command. ``files`` are path -> (text, mode)."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    rights: Rights
    netns: str = ""
    hostname: str = ""
    scratch: str = ""
    cwd: str = "/"
    mounts: tuple[Bind, ...] = ()
    files: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    shown: tuple[str, ...] = ()
    """Paths of the host that must be usable by any user, also below /tmp or a closed home."""
    join: int = 0
    """The process whose container to enter instead of making a new one."""

    def document(self) -> str:
        """As JSON, in the shape that node/launch.py reads."""
        whole = asdict(self)
        return json.dumps(whole | whole.pop("rights"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Where a command's streams go: file descriptors, or asyncio.subprocess.PIPE."""

    out: int = asyncio.subprocess.PIPE
    err: int = asyncio.subprocess.PIPE


def _write(path: pathlib.Path, text: str) -> None:
    """Write a file that only root may read, since an environment may hold secrets."""
    path.touch(mode=0o600)
    path.write_text(text)


async def start(launch: Launch, folder: pathlib.Path, output: Output) -> asyncio.subprocess.Process:
    """Start the command; its JSON is in ``folder`` for as long as the start takes.

    Raises:
        LaunchError: a step before the command's own start failed.
    """
    spec = folder / f".{secrets.token_hex(8)}.json"
    _write(spec, launch.document())
    reading, writing = os.pipe()
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", str(_PROGRAM), str(spec), str(writing)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output.out,
            stderr=output.err,
            pass_fds=(writing,),
            start_new_session=True,
            env={},
        )
    except OSError as error:
        os.close(reading)
        raise LaunchError(f"cannot start {sys.executable}: {error}") from error
    finally:
        os.close(writing)
    try:
        problem = await _told(reading)
    except asyncio.CancelledError:
        kill_session(process)
        raise
    finally:
        spec.unlink(missing_ok=True)
    if problem:
        await process.wait()
        raise LaunchError(f"{' '.join(launch.argv[:1])}: {problem}")
    return process


async def _told(descriptor: int) -> str:
    """What comes through a pipe until its other end closes."""
    reader = asyncio.StreamReader()
    with os.fdopen(descriptor, "rb", 0) as pipe:
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, pipe)
        try:
            return (await reader.read()).decode(errors="replace")
        finally:
            transport.close()


def namespace(pid: int, kind: str) -> int:
    """The identity of a process's namespace ("net", "mnt"); 0 when the process is gone."""
    try:
        return pathlib.Path(f"/proc/{pid}/ns/{kind}").stat().st_ino
    except OSError:
        return 0


@contextlib.contextmanager
def held(pid: int, kind: str) -> Iterator[frozenset[int]]:
    """The identity of a process's namespace, which nobody else gets while it is held: the kernel uses numbers again.

    Empty when the process is gone already.
    """
    try:
        descriptor = os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY)
    except OSError:
        yield frozenset()
        return
    try:
        yield frozenset({os.fstat(descriptor).st_ino})
    finally:
        os.close(descriptor)


def processes(kind: str, namespaces: Iterable[int]) -> list[int]:
    """The processes that are in one of these namespaces, whoever their parent is."""
    wanted = set(namespaces) - {0}
    numbers = [int(entry.name) for entry in pathlib.Path("/proc").iterdir() if entry.name.isdigit()]
    return [number for number in numbers if namespace(number, kind) in wanted] if wanted else []


def kill_session(process: asyncio.subprocess.Process) -> None:
    """End a command that ``start`` gave, and what it started in its session, unless it has ended."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def kill(pids: Iterable[int], number: signal.Signals = signal.SIGKILL) -> None:
    """Send a signal to those of the processes that still are."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
