"""The app at the far end: it answers with what it got and with its workload's name, whatever is spoken to it.

``python -m istioctl.testing.envoys.echo WORKLOAD PORT,PORT...``. The first bytes decide: a TLS handshake (with a
certificate of nobody), HTTP/2's preface (then it is gRPC, of any method), a request line of HTTP/1.1, or a line of TCP.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import socket
import ssl
import sys
import tempfile
import threading
from concurrent import futures
from pathlib import Path
from typing import Any, Final, Protocol

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

_PREFACE: Final = b"PRI * HTTP/2.0"
_HANDSHAKE: Final = b"\x16"
_METHODS: Final = (b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"TRACE", b"CONNECT")
_READ: Final = 65_536
_PATIENCE: Final = 60.0


class _Stream(Protocol):
    """What is spoken over, with TLS or without."""

    def readline(self) -> bytes: ...

    def read(self, size: int, /) -> bytes: ...

    def write(self, data: bytes, /) -> int: ...

    def flush(self) -> None: ...


def _context(folder: Path) -> ssl.SSLContext:
    """A certificate that nobody vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "echo")])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = builder.not_valid_before(now - dt.timedelta(hours=1)).not_valid_after(now + dt.timedelta(days=1))
    path = folder / "echo.pem"
    path.write_bytes(
        made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    found.load_cert_chain(path)
    return found


class _AnyMethod(grpc.GenericRpcHandler):
    """gRPC of any method: the answer's one message is what came, as JSON."""

    def __init__(self, workload: str) -> None:
        self._workload = workload

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        """See GenericRpcHandler."""
        metadata = {str(name): str(value) for name, value in handler_call_details.invocation_metadata or ()}
        body = _told(self._workload, path=handler_call_details.method, headers=metadata)
        return grpc.unary_unary_rpc_method_handler(lambda _, __: body)


def _told(workload: str, **more: object) -> bytes:
    return json.dumps({"workload": workload, **more}).encode()


class Echo:
    """The app of one workload."""

    def __init__(self, workload: str, folder: Path) -> None:
        self._workload = workload
        self._tls = _context(folder)
        self._http2 = str(folder / "http2.sock")
        self._server = grpc.server(futures.ThreadPoolExecutor(8), [_AnyMethod(workload)])
        self._server.add_insecure_port(f"unix:{self._http2}")
        self._server.start()

    def serve(self, connection: socket.socket) -> None:
        """One connection, until its end."""
        with contextlib.suppress(OSError), connection:
            connection.settimeout(_PATIENCE)
            if connection.recv(1, socket.MSG_PEEK) == _HANDSHAKE:
                with self._tls.wrap_socket(connection, server_side=True) as inside:
                    self._speak(inside.makefile("rwb"))
            elif connection.recv(len(_PREFACE), socket.MSG_PEEK) == _PREFACE:
                self._splice(connection)
            else:
                self._speak(connection.makefile("rwb"))

    def _splice(self, connection: socket.socket) -> None:
        with socket.socket(socket.AF_UNIX) as inside:
            inside.connect(self._http2)
            back = threading.Thread(target=_copy, args=(inside, connection), daemon=True)
            back.start()
            _copy(connection, inside)
            back.join()

    def _speak(self, stream: _Stream) -> None:
        while line := stream.readline():
            method, _, rest = line.partition(b" ")
            if method not in _METHODS:
                stream.write(_told(self._workload) + b"\n")
                stream.flush()
                continue
            headers = _headers(stream)
            if headers.get("content-type", "").startswith("application/grpc"):
                return  # no gRPC server speaks HTTP/1.1
            stream.read(int(headers.get("content-length", "0")))
            body = _told(self._workload, path=rest.split(b" ")[0].decode(), headers=headers)
            last = "connection: close\r\n" if headers.get("connection") == "close" else ""
            stream.write(f"HTTP/1.1 200 OK\r\nx-istioctl-echo: {self._workload}\r\n".encode())
            stream.write(f"content-length: {len(body)}\r\n{last}\r\n".encode())
            stream.write(b"" if method == b"HEAD" else body)
            stream.flush()
            if last:
                return


def _headers(stream: _Stream) -> dict[str, str]:
    found: dict[str, str] = {}
    while line := stream.readline().strip():
        name, _, value = line.decode(errors="replace").partition(":")
        key = name.strip().lower()
        found[key] = f"{found[key]},{value.strip()}" if key in found else value.strip()
    return found


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(_READ):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def listen(echo: Echo, port: int) -> socket.socket:
    """Serve a port of all addresses; port 0 is a free one.

    Raises:
        OSError: it is taken.
    """
    server = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=128)

    def accept() -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                connection, _ = server.accept()
                threading.Thread(target=echo.serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return server


def main(workload: str, ports: str) -> None:
    """Serve until the process is ended."""
    with tempfile.TemporaryDirectory() as folder:
        echo = Echo(workload, Path(folder))
        servers = [listen(echo, int(port)) for port in ports.split(",") if port]
        threading.Event().wait()
        del servers


if __name__ == "__main__":
    main(*sys.argv[1:3])
