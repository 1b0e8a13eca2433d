"""What cryptography raises of certificates and keys that cannot be read: only some of it are ValueErrors.

Extensions are parsed when they are asked for, so readers of ``extensions`` need it as well as loaders. What a
certificate has to say is left to whoever reads it.
"""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

UNREADABLE: Final = (ValueError, UnsupportedAlgorithm, x509.InvalidVersion, x509.DuplicateExtension)
"""Odd bytes, a curve or algorithm that nobody knows, an odd version, one extension twice."""
