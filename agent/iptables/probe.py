"""The self-test of capture (--run-validation, features B11, S35): real connections, seen where they come out.

Two listeners stand where Envoy will listen. A connection to 127.0.0.6 with the proxy's user must come out at the
inbound port (rule 2 of ISTIO_OUTPUT), with the port that was asked for as its original destination. Envoy must not be
running yet: the ports are its own.
"""

from __future__ import annotations

import ipaddress
import os
import selectors
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from agent.iptables.capture import Capture
from agent.iptables.tools import ToolError

_SO_ORIGINAL_DST = 80  # linux/netfilter_ipv4.h and linux/netfilter_ipv6/ip6_tables.h use the same number
_POLL = 0.2  # seconds between connection attempts


def run(capture: Capture, port: int, timeout: float, *, ipv6: bool = False) -> None:
    """Connect until a connection was captured.

    Args:
        capture: the settings that the rules were made of.
        port: the port to connect to; nothing listens there.
        timeout: seconds until the test has failed.
        ipv6: test the rules of IPv6 instead of IPv4.

    Raises:
        ToolError: no connection was captured in time, or a port of Envoy is taken.
    """
    family, listen, target = (socket.AF_INET6, "::1", "::6") if ipv6 else (socket.AF_INET, "127.0.0.1", "127.0.0.6")
    deadline = time.monotonic() + timeout
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        for own in (capture.proxy_port, capture.inbound_port):
            selector.register(stack.enter_context(_listener(family, listen, int(own))), selectors.EVENT_READ)
        while time.monotonic() < deadline:
            with _as_user(capture.proxy_uids[0]):
                client = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            client.settimeout(_POLL)
            client.bind(
                (listen, 0)
            )  # from 127.0.0.6 or ::6 it would be Envoy's traffic to the app, which is let through
            if client.connect_ex((target, port)) == 0 and _arrived(selector, port):
                return
            time.sleep(_POLL)
    raise ToolError(
        f"validation failed: a connection of user {capture.proxy_uids[0]} to {target}:{port} did not come out at port "
        f"{capture.inbound_port} within {timeout:g} s; the rules are missing or another program's come first"
    )


def _listener(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    try:
        return socket.create_server((address, port), family=family)
    except OSError as error:
        message = f"validation: cannot listen on {address} port {port}: {error.strerror} (is Envoy running already?)"
        raise ToolError(message) from error


def _arrived(selector: selectors.BaseSelector, port: int) -> bool:
    for key, _ in selector.select(_POLL):
        if isinstance(key.fileobj, socket.socket):
            connection, _ = key.fileobj.accept()
            with connection:
                if original_destination(connection)[1] == port:
                    return True
    return False


def original_destination(connection: socket.socket) -> tuple[str, int]:
    """Address and port that the client asked for before REDIRECT rewrote them."""
    if connection.family == socket.AF_INET6:
        raw = connection.getsockopt(socket.IPPROTO_IPV6, _SO_ORIGINAL_DST, 28)
        return str(ipaddress.IPv6Address(raw[8:24])), struct.unpack("!H", raw[2:4])[0]
    raw = connection.getsockopt(socket.IPPROTO_IP, _SO_ORIGINAL_DST, 16)
    return socket.inet_ntoa(raw[4:8]), struct.unpack("!H", raw[2:4])[0]


@contextmanager
def _as_user(uid: str) -> Iterator[None]:
    """Sockets made inside belong to the user: the owner match looks at who opened the socket."""
    before = os.geteuid()
    if not uid.isdecimal() or int(uid) == before:
        yield
        return
    try:
        os.seteuid(int(uid))
    except PermissionError as error:
        raise ToolError(f"validation must run as user {uid}, or as root with the capability SETUID") from error
    try:
        yield
    finally:
        os.seteuid(before)
