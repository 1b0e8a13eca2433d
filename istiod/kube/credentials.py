"""How we come into the cluster: kopf's login from a service account or a kubeconfig, as one HTTP session.

The session differs from kopf's own in two ways: the service account's token is read again while it is used (the
kubelet renews the file every hour), and connections notice within half a minute that the other side is gone.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

import aiohttp
import kopf
import yaml

from istiod.kube import fence

SERVICE_ACCOUNT: Final = pathlib.Path("/var/run/secrets/kubernetes.io/serviceaccount")
TOKEN_LIFE: Final = 30.0
"""Seconds for which a token that was read is used."""
_IDLE: Final = ((socket.TCP_KEEPIDLE, 10), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3))
"""A silent connection is probed after 10 s and given up after 25 s (fault FT5)."""
_USER_TIMEOUT_MS: Final = 25_000
_Address = tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, tuple[Any, ...]]
_Path = str | bytes | os.PathLike[str] | os.PathLike[bytes] | None


class LoginError(Exception):
    """There are no credentials for an API server; the message says what is missing."""


def login(kubeconfig: str) -> kopf.ConnectionInfo:
    """Where the API server is, and who we are.

    Args:
        kubeconfig: a file; "" is the pod's service account.

    Raises:
        LoginError: the file or the service account cannot be used.
    """
    settings = kopf.OperatorSettings()
    if not kubeconfig:
        info = kopf.login_with_service_account(settings=settings)
        if info is None:
            raise LoginError("no --configDir, no --kubeconfig, and no service account: nothing to read")
        return replace(info, server=_server(os.environ) or info.server)
    try:
        with _environment("KUBECONFIG", kubeconfig):
            info = kopf.login_with_kubeconfig(settings=settings)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError, kopf.LoginError) as error:
        raise LoginError(f"--kubeconfig {kubeconfig}: {_reason(error)}") from error
    if info is None or not info.server:
        raise LoginError(f"--kubeconfig {kubeconfig}: names no server")
    if not (info.token or info.username or info.certificate_path or info.certificate_data):
        raise LoginError(f"--kubeconfig {kubeconfig}: the user has no token and no certificate (exec is not supported)")
    return replace(
        info,
        ca_path=_beside(kubeconfig, info.ca_path),
        certificate_path=_beside(kubeconfig, info.certificate_path),
        private_key_path=_beside(kubeconfig, info.private_key_path),
    )


def session(info: kopf.ConnectionInfo, clock: Callable[[], float] = time.monotonic) -> aiohttp.ClientSession:
    """A session with these credentials; to be made inside the event loop.

    Raises:
        LoginError: certificates cannot be read.
    """
    try:
        tls = info.as_ssl_context()
    except (OSError, ValueError) as error:
        raise LoginError(f"the credentials of {info.server} cannot be used: {error}") from error
    connector = aiohttp.TCPConnector(limit=0, ssl=tls, socket_factory=_socket)
    headers = {**info.as_http_headers(), "User-Agent": "istiod"}
    if info.ca_path and pathlib.Path(str(info.ca_path)).parent == SERVICE_ACCOUNT:
        del headers["Authorization"]
        token = _Token(SERVICE_ACCOUNT / "token", clock)
        return aiohttp.ClientSession(
            connector=connector, headers=headers, request_class=fence.Request, middlewares=(token,)
        )
    return aiohttp.ClientSession(connector=connector, headers=headers, request_class=fence.Request)


def _reason(error: Exception) -> str:
    """Why a kubeconfig cannot be read, on one line."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, kopf.LoginError):
        return str(error)
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"no YAML: {error.problem} (line {error.problem_mark.line + 1})"
    return f"no kubeconfig: {error!r}"


class _Token:
    """Middleware that shows the newest token of a file."""

    def __init__(self, file: pathlib.Path, clock: Callable[[], float]) -> None:
        self._file = file
        self._clock = clock
        self._text = ""
        self._until = 0.0

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        request.headers["Authorization"] = f"Bearer {self.read()}"
        return await handler(request)

    def read(self) -> str:
        """The token; a file that cannot be read now leaves the one before."""
        if self._clock() >= self._until:
            with contextlib.suppress(OSError):
                self._text = self._file.read_text(encoding="utf-8").strip()
            self._until = self._clock() + TOKEN_LIFE
        return self._text


def _beside(kubeconfig: str, path: _Path) -> str | None:
    """A file that a kubeconfig names, as kubectl finds it: relative to the kubeconfig."""
    return str(pathlib.Path(kubeconfig).parent / os.fsdecode(path)) if path else None


def _server(environment: Mapping[str, str]) -> str:
    """The API server's address as every pod is told it: it works without DNS (fault FT31)."""
    host, port = environment.get("KUBERNETES_SERVICE_HOST", ""), environment.get("KUBERNETES_SERVICE_PORT", "443")
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}" if host else ""


def _socket(address: _Address) -> socket.socket:
    made = socket.socket(*address[:3])
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (*_IDLE, (socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)):
        made.setsockopt(socket.IPPROTO_TCP, option, value)
    return made


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """Set a variable that kopf reads and takes no argument for."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
