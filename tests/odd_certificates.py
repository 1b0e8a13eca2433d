"""Certificates that openssl makes or passes on, and at which Python's parsers raise what is no ValueError."""

from __future__ import annotations

import ssl

from cryptography import x509
from cryptography.hazmat.primitives import serialization

ODD_CURVE = """-----BEGIN CERTIFICATE-----
MIIBIDCB7KADAgECAhQ6kHJbkmNpxQpw0B96cJzIGxnP5TAKBggqhkjOPQQDAjAM
MQowCAYDVQQDDAFhMB4XDTI2MTEyOTAwMjA0MFoXDTI2MTIwOTAwMjA0MFowDDEK
MAgGA1UEAwwBYTAyMBAGByqGSM49AgEGBSuBBAAGAx4ABHniY3ZdSYNfO89IS84X
tzeZbB6Aq2wsWUluauGjUzBRMB0GA1UdDgQWBBR9iny5wHoUzFOJ144knrhWvbmj
9TAfBgNVHSMEGDAWgBR9iny5wHoUzFOJ144knrhWvbmj9TAPBgNVHRMBAf8EBTAD
AQH/MAoGCCqGSM49BAMCAyMAMCACDmWA1BFHT35vR3kKuKEhAg5dBA+jOLMO6cg6
xfYC/w==
-----END CERTIFICATE-----
"""
"""On secp112r1: ``openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:secp112r1 -nodes -subj /CN=a``."""
_VERSION_3 = bytes.fromhex("a003020102")
_VERSION_6 = bytes.fromhex("a003020105")


def of_no_version(pem: str) -> str:
    """A certificate with a version that X.509 does not have."""
    der = x509.load_pem_x509_certificate(pem.encode()).public_bytes(serialization.Encoding.DER)
    return ssl.DER_cert_to_PEM_cert(der.replace(_VERSION_3, _VERSION_6, 1))
