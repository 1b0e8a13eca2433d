"""The server's TLS context, made of keys that are in memory, and renewed in place."""

from __future__ import annotations

import os
import ssl
from typing import Final

_MEMORY: Final = "webhook-certificate"


def context(key: bytes, chain: bytes, client_roots: bytes = b"") -> ssl.SSLContext:
    """A server's context: TLS 1.2 or newer, HTTP/1.1.

    Args:
        key: private key, PEM.
        chain: certificate and those above it, PEM.
        client_roots: where given, a client must show a certificate of one of these (PEM), as an API server can be told
            to (SEC34); without it anybody may ask.

    Raises:
        ssl.SSLError: a key or certificate is none.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.set_alpn_protocols(["http/1.1"])
    if client_roots:
        made.load_verify_locations(cadata=client_roots.decode())
        made.verify_mode = ssl.CERT_REQUIRED
    load(made, key, chain)
    return made


def load(given: ssl.SSLContext, key: bytes, chain: bytes) -> None:
    """Put a new key and certificate into a context that serves: later handshakes use them.

    In the event loop's thread, as handshakes are: none can see half of it.

    Raises:
        ssl.SSLError: a key or certificate is none; the old ones stay.
    """
    # OpenSSL reads keys from files; this one never touches a disk.
    descriptor = os.memfd_create(_MEMORY)
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(key.rstrip(b"\n") + b"\n" + chain)
        given.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
