"""TLS settings of our servers: client certificates are optional, so that one port serves proxies and token clients."""

from __future__ import annotations

import os
import ssl
from typing import Final

CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2; 1.3 has its own. All with forward secrecy."""


def context(key: bytes, chain: bytes, roots: bytes) -> ssl.SSLContext:
    """What one generation of connections uses. All PEM; a client's certificate must be signed by one of ``roots``.

    TLS 1.3 resumes no session. TLS 1.2 may, by a session's id while the connection that it comes of is open, and Python
    has no switch for it: the new connection has the identity of that one's certificate, and ends when it does.

    Raises:
        ssl.SSLError: key and chain do not fit, or can't be read.
    """
    made = server(key, chain, "h2")
    made.load_verify_locations(cadata=roots.decode("ascii"))
    made.verify_mode = ssl.CERT_OPTIONAL
    return made


def server(key: bytes, chain: bytes, *protocols: str) -> ssl.SSLContext:
    """TLS 1.2 or newer with forward secrecy, without sessions, for these protocols (ALPN); anybody may ask.

    Raises:
        ssl.SSLError: key and chain (PEM) do not fit, or can't be read.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.set_ciphers(CIPHERS)
    made.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    made.num_tickets = 0
    made.set_alpn_protocols(list(protocols))
    load(made, key, chain)
    return made


def load(made: ssl.SSLContext, key: bytes, chain: bytes) -> None:
    """Put a key and a certificate into a context, which may be serving: later handshakes use them.

    In the event loop's thread, as handshakes are: none can see half of it.

    Raises:
        ssl.SSLError: key and chain (PEM) do not fit, or can't be read; the old ones stay.
    """
    number = os.memfd_create("serving", os.MFD_CLOEXEC)  # no file on a disk: Python's ssl takes a path only
    try:
        os.write(number, key + b"\n" + chain)
        path = f"/proc/self/fd/{number}"
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path)  # one that fails has lost what it had
        made.load_cert_chain(path)
    finally:
        os.close(number)
