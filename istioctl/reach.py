"""Asking Envoy's admin interface and istiod's pages where no cluster is between: by address, or out of a file."""

from __future__ import annotations

import http.client
import pathlib
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol, TypeVar

from istioctl.errors import CommandError
from wire import decimal

T = TypeVar("T")

SECONDS: Final = 30.0
_OK: Final = 200
MAX_BYTES: Final = 512 * 1024 * 1024


class Admin(Protocol):
    """One Envoy. ``name`` is what error messages and comparisons call it."""

    @property
    def name(self) -> str:
        """POD.NAMESPACE, an address, or a file."""
        ...

    def ask(self, path: str, method: str = "GET") -> bytes:
        """The answer's body.

        Raises:
            CommandError: it cannot be reached, or refuses.
        """
        ...


class Address:
    """Something that speaks HTTP at HOST:PORT."""

    def __init__(self, address: str, connect: Callable[[], http.client.HTTPConnection] | None = None) -> None:
        """Ask there; ``connect`` gives connections that are made in another way, such as through a port-forward.

        Raises:
            CommandError: the address is no HOST:PORT.
        """
        host, _, port = address.rpartition(":")
        number = decimal.number(port)
        if connect is None and (not host or number is None):
            raise CommandError(f"{address!r} is not HOST:PORT")
        self.name = address
        self._connect = connect or (lambda: http.client.HTTPConnection(host.strip("[]"), number, timeout=SECONDS))

    def ask(self, path: str, method: str = "GET", body: bytes | None = None) -> bytes:
        """The answer's body; a ``body`` of the question is JSON.

        Raises:
            CommandError: it cannot be reached, or refuses.
        """
        connection = self._connect()
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"} if body is not None else {})
            answer = connection.getresponse()
            said = answer.read(MAX_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise CommandError(f"{self.name}: cannot get {path}: {error or type(error).__name__}") from error
        finally:
            connection.close()
        if answer.status != _OK:
            reason = said[:200].decode(errors="replace").strip()
            raise CommandError(f"{self.name}: {path} answered {answer.status} {reason}")
        return said


def ask_all(
    planes: Sequence[Address], path: str, read: Callable[[str, bytes], Iterable[T]]
) -> tuple[list[T], list[str]]:
    """What those that answer say; and why others do not, such as one that restarts.

    Args:
        planes: replicas of one program.
        path: the page.
        read: what one says, of its name and the body; raises CommandError where it cannot be read.

    Raises:
        CommandError: none answers.
    """
    found: list[T] = []
    silent: list[str] = []
    for plane in planes:
        try:
            found += read(plane.name, plane.ask(path))
        except CommandError as error:
            silent.append(str(error))
    if len(silent) == len(planes):
        raise CommandError("; ".join(silent))
    return found, silent


class File:
    """A configuration dump that somebody saved (``-f``); ``-`` is standard input."""

    def __init__(self, path: str) -> None:
        """Read this file when asked."""
        self.name = path

    def ask(self, path: str, method: str = "GET") -> bytes:
        """The file, whichever page was saved in it.

        Raises:
            CommandError: it cannot be read, or Envoy is to do something.
        """
        if method != "GET":
            raise CommandError(f"{self.name}: a file cannot do {path}; name a pod")
        try:
            return sys.stdin.buffer.read() if self.name == "-" else pathlib.Path(self.name).read_bytes()
        except OSError as error:
            raise CommandError(f"cannot read {self.name}: {error.strerror}") from error
