"""Where a mesh keeps what it makes, who owns it, and how to clean up after an owner that died.

A mesh has a name below a root folder. All that it makes on the machine is found again from these two: its folder, and
network namespaces whose names start with its prefix; every process of the mesh is in one of these, and mounts end with
their processes. The owner holds a lock on the folder for as long as it lives, so a dead one is told from a live one.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import pathlib
import re
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass

from node import launcher
from node.errors import CommandError, MeshError
from node.network import FOLDER, command

DEFAULT_ROOT = pathlib.Path("/run/meshnode")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,40}")
_OWNER = "owner"
"""The file with the number of the process that owns the folder."""
_LOCK = "lock"
_PATIENCE = 10.0
"""Seconds for what the kernel does at once, on a machine with too much to do."""
_ATTEMPTS = 5


def prefix_of(name: str, root: pathlib.Path = DEFAULT_ROOT) -> str:
    """What the names of a mesh's namespaces start with, and no other's: its own name holds neither dot nor plus."""
    path = str(root.resolve())
    other = "" if path == str(DEFAULT_ROOT) else f"+{hashlib.sha256(path.encode()).hexdigest()[:8]}"
    return f"meshnode.{name}{other}."


def _lock(folder: pathlib.Path) -> int | None:
    """The folder's lock as a file descriptor; None if a living owner has it or the folder has just been removed."""
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_ino == (folder / _LOCK).stat().st_ino:
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None


def namespaces(name: str, root: pathlib.Path = DEFAULT_ROOT) -> list[pathlib.Path]:
    """The network namespaces of a mesh that are on this machine."""
    return sorted(FOLDER.glob(prefix_of(name, root) + "*"))


async def _survivors(paths: list[pathlib.Path]) -> list[int]:
    """End every process in these namespaces; those that do not end in time."""
    inodes = [path.stat().st_ino for path in paths]
    end = asyncio.get_running_loop().time() + _PATIENCE
    while (left := launcher.processes("net", inodes)) and asyncio.get_running_loop().time() < end:
        launcher.kill(left)
        await asyncio.sleep(0.02)
    return left


async def sweep(name: str, root: pathlib.Path = DEFAULT_ROOT) -> None:
    """End every process of a mesh and remove its namespaces; what resists does not keep the rest.

    Raises:
        MeshError: something of it could not be removed in time; the message names all of that.
    """
    paths = namespaces(name, root)
    left = [f"process {number}" for number in await _survivors(paths)]
    for path in paths:
        try:
            async with asyncio.timeout(_PATIENCE):
                await command("ip", "netns", "delete", path.name)
        except (CommandError, TimeoutError) as error:
            left.append(f"namespace {path.name} ({error or 'not in time'})")
    if left:
        raise MeshError(f"mesh {name}: could not remove {', '.join(left)}")


@dataclass(slots=True)
class Home:
    """The folder of a mesh that we own."""

    name: str
    folder: pathlib.Path
    _descriptor: int

    @property
    def runtime(self) -> pathlib.Path:
        """What the node itself tells the control plane: pods, services, endpoints."""
        return self.folder / "runtime"

    @property
    def config(self) -> pathlib.Path:
        """The user's configuration: anything the node does not act on itself."""
        return self.folder / "config"

    async def remove(self) -> None:
        """Remove all that the mesh made, and own its name no longer.

        Raises:
            MeshError: something of it could not be removed in time; the message names it.
        """
        try:
            await sweep(self.name, self.folder.parent)
            await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)
            if left := _contents(self.folder):
                raise MeshError(f"mesh {self.name}: could not remove {', '.join(left)}")
        finally:
            os.close(self._descriptor)


def _contents(folder: pathlib.Path) -> list[str]:
    """What is in a mesh's folder but for the lock, which the next owner may have made already."""
    return [str(path) for path in folder.iterdir() if path.name != _LOCK] if folder.is_dir() else []


def folder_of(root: pathlib.Path, name: str) -> pathlib.Path:
    """The folder of a mesh: what is in it is removed with the mesh, so no name leads anywhere else.

    Raises:
        MeshError: a mesh cannot have that name.
    """
    if not _NAME.fullmatch(name):
        raise MeshError(f"{name!r} is no name of a mesh: small letters, digits and '-', at most 41")
    return root / name


def _is_of_mesh(folder: pathlib.Path) -> bool:
    """Whether some mesh made a folder: a root that somebody names may hold others."""
    return bool(_NAME.fullmatch(folder.name)) and (folder / _OWNER).is_file()


def _owned(root: pathlib.Path, name: str) -> tuple[pathlib.Path, int]:
    """The folder of a mesh and our lock on it."""
    folder = folder_of(root, name)
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    for _ in range(_ATTEMPTS):  # somebody who cleans up may remove the new folder before we have its lock
        folder.mkdir(mode=0o700, exist_ok=True)
        descriptor = _lock(folder)
        if descriptor is not None:
            (folder / _OWNER).write_text(str(os.getpid()))
            return folder, descriptor
    process = owner(root, name) or "?"
    raise MeshError(f"mesh {name} is up already (process {process}); meshnode --name {name} down ends it")


async def claim(name: str, root: pathlib.Path = DEFAULT_ROOT) -> Home:
    """Become the owner of a mesh's name, and remove what dead owners of any name left.

    Raises:
        MeshError: another process has a mesh of that name.
    """
    await clean_dead(root)
    folder, descriptor = _owned(root, name)
    try:
        await sweep(name, root)
    except BaseException:
        os.close(descriptor)
        raise
    home = Home(name, folder, descriptor)
    for path in (home.runtime, home.config):
        path.mkdir(exist_ok=True)
    return home


def owner(root: pathlib.Path, name: str) -> int:
    """The process that owns a mesh or did so last; 0 if unknown."""
    try:
        return int((root / name / _OWNER).read_text())
    except (OSError, ValueError):
        return 0


def _folders(root: pathlib.Path) -> list[pathlib.Path]:
    """The folders of all meshes."""
    return sorted(path for path in root.iterdir() if _is_of_mesh(path)) if root.is_dir() else []


def _unsaid(_: str) -> None:
    """Say nothing."""


async def clean_dead(root: pathlib.Path = DEFAULT_ROOT, say: Callable[[str], None] = _unsaid) -> list[str]:
    """Remove what owners that are dead left on the machine; the names of their meshes. ``say`` hears what resists."""
    cleaned = []
    for folder in _folders(root):
        descriptor = _lock(folder)
        if descriptor is not None:
            try:
                await Home(folder.name, folder, descriptor).remove()
                cleaned.append(folder.name)
            except MeshError as error:  # somebody else's remains hinder nobody
                say(str(error))
    return cleaned


async def _released(folder: pathlib.Path, patience: float) -> int | None:
    """Wait for the lock of a folder that has an owner; None if the folder is gone.

    Raises:
        TimeoutError: neither in time.
    """
    async with asyncio.timeout(patience):
        while os.path.isdir(folder):  # noqa: ASYNC240, PTH112 (one look at a tmpfs)
            descriptor = _lock(folder)
            if descriptor is not None:
                return descriptor
            await asyncio.sleep(0.1)
    return None


async def _taken_over(folder: pathlib.Path, patience: float, say: Callable[[str], None]) -> int | None:
    """The lock of a folder whose owner is ended for it, in the end by force; None if the folder went with the owner.

    Raises:
        MeshError: the owner outlives that, too.
    """
    process = owner(folder.parent, folder.name)
    for number, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, _PATIENCE)):
        launcher.kill([process] if process else [], number)
        try:
            return await _released(folder, seconds)
        except TimeoutError:
            say(f"mesh {folder.name}: process {process} has not ended {seconds:.0f} s after {number.name}")
    raise MeshError(f"mesh {folder.name}: could not remove process {process} and what it holds")


async def end(
    name: str, root: pathlib.Path = DEFAULT_ROOT, patience: float = 60.0, say: Callable[[str], None] = _unsaid
) -> bool:
    """End a mesh, alive or dead, and remove all of it; False if there was none.

    An owner that does not end within ``patience`` seconds is killed, which ``say`` hears.

    Raises:
        MeshError: something could not be removed in time, or a mesh cannot have that name.
    """
    folder = folder_of(root, name)
    if not _is_of_mesh(folder):
        return False
    descriptor = _lock(folder)
    if descriptor is None:
        descriptor = await _taken_over(folder, patience, say)
    if descriptor is not None:
        await Home(name, folder, descriptor).remove()
    return True
