"""A stand-in for Envoy, or an app, for packet path tests: runs as a user and tells each hop of a connection.

    python stand_in.py UID '{"listen": {"15001": "outbound", "15006": "inbound", "8080": "app"}, "vips": {...}}'

Every connection gets a line of hops, each ``NAME`` or ``NAME(original destination)``, and is closed. An app says its
name and who asked. Outbound goes on to where its VIP table says, else to the original destination; inbound goes to the
original destination from 127.0.0.6, as Envoy does. Standard library only: it starts in 50 ms.
"""

from __future__ import annotations

import encodings.idna  # noqa: F401 (names are looked up after the user was changed, who may not read Python's folder)
import json
import os
import socket
import struct
import sys
import threading

TIMEOUT = 10.0


def original_destination(connection: socket.socket) -> tuple[str, int]:
    raw = connection.getsockopt(socket.IPPROTO_IP, 80, 16)
    return socket.inet_ntoa(raw[4:8]), struct.unpack("!H", raw[2:4])[0]


def ask(address: tuple[str, int], source: str = "") -> str:
    """What is on the other end."""
    from_address = (source, 0) if source else None
    try:
        with socket.create_connection(address, timeout=TIMEOUT, source_address=from_address) as connection:
            return connection.makefile().read().strip()
    except OSError as error:
        return f"failed: {error}"


def serve(connection: socket.socket, role: str, vips: dict[str, list[object]]) -> None:
    with connection:
        if role in {"inbound", "outbound"}:
            wanted = original_destination(connection)
            host, port = vips.get(f"{wanted[0]}:{wanted[1]}", wanted) if role == "outbound" else wanted
            there = ask((str(host), int(str(port))), "127.0.0.6" if role == "inbound" else "")
            answer = f"{role}({wanted[0]}:{wanted[1]}) > {there}"
        else:
            answer = f"{role} from {connection.getpeername()[0]}"
        connection.sendall(answer.encode() + b"\n")


def accept(listener: socket.socket, role: str, vips: dict[str, list[object]]) -> None:
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection, role, vips), daemon=True).start()


def main() -> None:
    uid, settings = int(sys.argv[1]), json.loads(sys.argv[2])
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
    if "ask" in settings:
        sys.stdout.write(ask(tuple(settings["ask"])) + "\n")
        return
    for port, role in settings["listen"].items():
        address, _, number = port.rpartition(":")
        listener = socket.create_server((address, int(number)))
        threading.Thread(target=accept, args=(listener, role, settings.get("vips", {})), daemon=True).start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.read()  # until the test closes us
    threading.Event().wait()


main()
