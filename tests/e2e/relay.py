"""Something between the API server and a webhook that holds up what is said, as a network or a busy machine does."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Relay:
    """Passes connections on to ``port``; what a client sends comes ``delay`` seconds late."""

    def __init__(self, port: int) -> None:
        self.delay = 0.0
        self._target = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])

    def run(self) -> None:
        """Accept until closed."""
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def close(self) -> None:
        """Accept no more."""
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _connect(self, client: socket.socket) -> None:
        with client:
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                return
            with server:
                threading.Thread(target=self._pass, args=(server, client), daemon=True).start()
                self._pass(client, server, late=True)

    def _pass(self, source: socket.socket, target: socket.socket, *, late: bool = False) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                time.sleep(self.delay if late and _is_data(data) else 0)
                target.sendall(data)
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


def _is_data(record: bytes) -> bool:
    """Whether it begins with a record of TLS that holds application data: a handshake is not held up."""
    return record[:1] == b"\x17"


@contextmanager
def relay(port: int) -> Iterator[Relay]:
    """A relay before a port of this machine until the block ends."""
    made = Relay(port)
    thread = threading.Thread(target=made.run, daemon=True)
    thread.start()
    yield made
    made.close()
    thread.join()
