"""An app of both IP versions: tells each client the address that it came from. Standard library only.

python dual_app.py UID serve :::8080 [ADDRESS:PORT ...]
python dual_app.py UID ask ADDRESS PORT
"""

from __future__ import annotations

import codecs
import os
import socket
import sys
import threading
import time

DEADLINE = 60.0  # programs of both pods start meanwhile, on a machine that may be busy


def accept(listener: socket.socket) -> None:
    while True:
        connection, peer = listener.accept()
        with connection:
            connection.sendall(peer[0].removeprefix("::ffff:").encode())


def serve(places: list[str]) -> None:
    for place in places:
        address, _, port = place.rpartition(":")
        both = address == "::"
        listener = socket.create_server((address, int(port)), family=socket.AF_INET6, dualstack_ipv6=both)
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    threading.Event().wait()


def ask(address: str, port: int) -> str:
    """What the server says; asked again while it says nothing."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        try:
            with socket.create_connection((address, port), timeout=5) as connection:
                if said := connection.recv(100).decode():
                    return said
        except OSError:
            pass
        time.sleep(0.05)
    return "nobody"


def main() -> None:
    user, what, *rest = sys.argv[1:]
    codecs.lookup("idna")  # which names are looked up with: the user below may not read Python's folder
    os.setgroups([])
    os.setgid(int(user))
    os.setuid(int(user))
    if what == "serve":
        serve(rest)
    else:
        sys.stdout.write(ask(rest[0], int(rest[1])) + "\n")


main()
