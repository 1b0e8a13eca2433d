"""Names of TLS parameters that Envoy knows: one that it does not know would make it refuse a whole resource.

Source: Envoy's TlsParameters (BoringSSL); ``istiod`` leaves out what stands nowhere here, and says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

CIPHER_SUITES: Final = frozenset(
    (
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-RSA-CHACHA20-POLY1305",
        "ECDHE-ECDSA-AES256-SHA",
        "ECDHE-RSA-AES256-SHA",
        "ECDHE-ECDSA-AES128-SHA",
        "ECDHE-RSA-AES128-SHA",
        "ECDHE-ECDSA-AES128-SHA256",
        "ECDHE-PSK-CHACHA20-POLY1305",
        "ECDHE-PSK-AES256-CBC-SHA",
        "ECDHE-PSK-AES128-CBC-SHA",
        "AES256-GCM-SHA384",
        "AES128-GCM-SHA256",
        "AES256-SHA",
        "AES128-SHA",
        "PSK-AES256-CBC-SHA",
        "PSK-AES128-CBC-SHA",
        "DES-CBC3-SHA",
    )
)
"""Cipher suites of TLS 1.2 and before; those of TLS 1.3 cannot be chosen."""
CURVES: Final = frozenset(("P-256", "P-384", "P-521", "X25519", "X25519MLKEM768"))
"""Curves of the key exchange."""


def known(said: Iterable[str], names: frozenset[str]) -> tuple[str, ...]:
    """What is known of a list, each once."""
    return tuple(name for name in dict.fromkeys(said) if name in names)
