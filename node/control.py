"""How the command line talks to a mesh that is up: one JSON line each way over a unix socket in the mesh's folder."""

from __future__ import annotations

import asyncio
import contextlib
import json
import pathlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from crds.diagnostic import Diagnostic, Severity
from node.errors import MeshError

SOCKET = "control"
_LIMIT = 32 << 20

Request = Mapping[str, Any]


class Mesh(Protocol):
    """What the command line asks of a mesh (node.mesh.Mesh)."""

    async def apply(self, what: str, file: str = "-", namespace: str = "") -> list[Diagnostic]:
        """Apply YAML; findings name its place by ``file``."""
        ...

    async def delete(self, kind: str, name: str, namespace: str = "") -> bool:
        """Delete an object."""
        ...

    async def exec(self, pod: str, argv: Sequence[str], container: str = "") -> tuple[int, str, str]:
        """Run a command in a container."""
        ...

    def logs(self, pod: str, container: str = "") -> str:
        """What a container has written."""
        ...

    async def kill(self, pod: str) -> str:
        """Delete a pod."""
        ...

    def table(self) -> str:
        """The pods."""
        ...

    async def ready(self, deadline: float) -> None:
        """Wait for all pods."""
        ...


async def _apply(mesh: Mesh, request: Request) -> object:
    file, namespace = str(request.get("file") or "-"), str(request.get("namespace") or "")
    found = await mesh.apply(str(request["text"]), file, namespace)
    return [(str(each), each.severity is Severity.ERROR) for each in found]


async def _delete(mesh: Mesh, request: Request) -> object:
    return await mesh.delete(str(request["kind"]), str(request["name"]), str(request.get("namespace") or ""))


async def _exec(mesh: Mesh, request: Request) -> object:
    return await mesh.exec(str(request["pod"]), request["argv"], str(request.get("container") or ""))


async def _logs(mesh: Mesh, request: Request) -> object:
    return mesh.logs(str(request["pod"]), str(request.get("container") or ""))


async def _kill(mesh: Mesh, request: Request) -> object:
    return await mesh.kill(str(request["pod"]))


async def _status(mesh: Mesh, _: Request) -> object:
    return mesh.table()


async def _ready(mesh: Mesh, request: Request) -> object:
    await mesh.ready(float(request["deadline"]))
    return True


_COMMANDS: Mapping[str, Callable[[Mesh, Request], Awaitable[object]]] = {
    "apply": _apply,
    "delete": _delete,
    "exec": _exec,
    "logs": _logs,
    "kill": _kill,
    "status": _status,
    "ready": _ready,
}


async def _answer(mesh: Mesh, line: bytes) -> dict[str, object]:
    """The answer to one request: {"result": ...} or {"error": a line for the user}."""
    try:
        request = json.loads(line)
        return {"result": await _COMMANDS[request["command"]](mesh, request)}
    except (MeshError, OSError) as error:
        return {"error": str(error)}
    except (KeyError, TypeError, ValueError) as error:
        return {"error": f"no valid request: {error!r}"}


async def serve(mesh: Mesh, folder: pathlib.Path) -> asyncio.Server:
    """Answer the command line until the server is closed. Only root may connect: the folder is root's."""

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            answer = await _answer(mesh, await reader.readline())
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        writer.close()

    return await asyncio.start_unix_server(converse, folder / SOCKET, limit=_LIMIT)


async def ask(folder: pathlib.Path, command: str, **arguments: object) -> Any:
    """The answer of the mesh whose folder this is.

    Raises:
        MeshError: it is not up, or refuses.
    """
    try:
        reader, writer = await asyncio.open_unix_connection(folder / SOCKET, limit=_LIMIT)
    except PermissionError as error:
        raise MeshError(f"only root may speak to mesh {folder.name} (try sudo)") from error
    except OSError as error:
        raise MeshError(f"mesh {folder.name} is not up") from error
    try:
        writer.write(json.dumps({"command": command, **arguments}).encode() + b"\n")
        await writer.drain()
        answer = json.loads(await reader.readline() or b'{"error": "the mesh ended"}')
    except OSError as error:
        raise MeshError(f"mesh {folder.name}: {error}") from error
    finally:
        writer.close()
    if "error" in answer:
        raise MeshError(str(answer["error"]))
    return answer["result"]
