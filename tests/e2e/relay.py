"""Something between the API server and a webhook that holds up what is said, as a network or a busy machine does."""

from __future__ import annotations

import contextlib
import queue
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
        self._open: set[socket.socket] = set()
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

    def cut(self) -> None:
        """End all connections: whoever comes again begins with a handshake."""
        for one in tuple(self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    @contextmanager
    def late(self, seconds: float) -> Iterator[None]:
        """Hold up what is said in the meantime."""
        self.delay = seconds
        try:
            yield
        finally:
            self.delay = 0.0

    def _connect(self, client: socket.socket) -> None:
        self._open.add(client)
        try:
            self._pass_on(client)
        finally:
            self._open.discard(client)

    def _pass_on(self, client: socket.socket) -> None:
        with client:
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                return
            with server:
                line: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
                back: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
                rest = ((_deliver, line, server), (self._take, server, back), (_deliver, back, client))
                for do, *given in rest:
                    threading.Thread(target=do, args=given, daemon=True).start()
                self._take(client, line, late=True)

    def _take(self, source: socket.socket, line: queue.SimpleQueue[tuple[float, bytes]], *, late: bool = False) -> None:
        """Put what comes into the line, with the time at which it is due: the parts of one request come late once."""
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                line.put((time.monotonic() + (self.delay if late and _is_data(data) else 0), data))
        line.put((0.0, b""))


def _deliver(line: queue.SimpleQueue[tuple[float, bytes]], target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while (item := line.get())[1]:
            time.sleep(max(0.0, item[0] - time.monotonic()))
            target.sendall(item[1])
        target.shutdown(socket.SHUT_WR)


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
