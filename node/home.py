"""Where a mesh keeps what it makes, who owns it, and how to clean up after an owner that died.

A mesh has a name. Everything that it makes on the machine is found again from that name alone: its folder, and network
namespaces whose names start with its prefix; every process of the mesh is in one of these, and mounts end with their
processes. The owner holds a lock on the folder for as long as it lives, so a dead one is told from a live one.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pathlib
import re
import shutil
import signal
from dataclasses import dataclass

from node import launcher
from node.errors import MeshError
from node.network import FOLDER, command

DEFAULT_ROOT = pathlib.Path("/run/meshnode")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,40}")
_OWNER = "owner"
"""The file with the number of the process that owns the folder."""
_PATIENCE = 10.0
_ATTEMPTS = 5


def prefix_of(name: str) -> str:
    """What the names of a mesh's namespaces start with. No mesh's name holds a dot, so no prefix starts another."""
    return f"meshnode.{name}."


def _lock(folder: pathlib.Path) -> int | None:
    """The folder's lock as a file descriptor; None if a living owner has it or the folder has just been removed."""
    try:
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_ino == (folder / "lock").stat().st_ino:
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None


def namespaces(name: str) -> list[pathlib.Path]:
    """The network namespaces of a mesh that are on this machine."""
    return sorted(FOLDER.glob(prefix_of(name) + "*"))


async def sweep(name: str) -> None:
    """End every process of a mesh and remove its namespaces.

    Raises:
        MeshError: a process could not be ended in time.
    """
    paths = namespaces(name)
    inodes = [path.stat().st_ino for path in paths]
    end = asyncio.get_running_loop().time() + _PATIENCE
    while left := launcher.processes("net", inodes):
        launcher.kill(left)
        if asyncio.get_running_loop().time() > end:
            raise MeshError(f"mesh {name}: processes {left} do not end")
        await asyncio.sleep(0.02)
    for path in paths:
        await command("ip", "netns", "delete", path.name)


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
        """Remove all that the mesh made."""
        await sweep(self.name)
        await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)
        os.close(self._descriptor)


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
    await sweep(name)
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


async def clean_dead(root: pathlib.Path = DEFAULT_ROOT) -> list[str]:
    """Remove what owners that are dead left on the machine; the names of their meshes."""
    cleaned = []
    for folder in _folders(root):
        descriptor = _lock(folder)
        if descriptor is not None:
            await Home(folder.name, folder, descriptor).remove()
            cleaned.append(folder.name)
    return cleaned


async def end(name: str, root: pathlib.Path = DEFAULT_ROOT, patience: float = 60.0) -> bool:
    """End a mesh, alive or dead, and remove all of it; False if there was none.

    Raises:
        MeshError: its owner does not end in time, or a mesh cannot have that name.
    """
    folder = folder_of(root, name)
    if not _is_of_mesh(folder):
        return False
    limit = asyncio.get_running_loop().time() + patience
    asked = False
    while folder.is_dir():
        descriptor = _lock(folder)
        if descriptor is not None:
            await Home(name, folder, descriptor).remove()
            return True
        if not asked:
            with contextlib.suppress(ProcessLookupError):
                os.kill(owner(root, name), signal.SIGTERM)
            asked = True
        if asyncio.get_running_loop().time() > limit:
            raise MeshError(f"mesh {name}: process {owner(root, name)} does not end")
        await asyncio.sleep(0.1)
    return True
