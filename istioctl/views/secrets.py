"""``proxy-config secret``: the certificates that Envoy has over SDS. Private keys are never in a dump of Envoy."""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Iterable, Iterator
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from istioctl.dump import Json
from wire.certificates import UNREADABLE

HEADER: Final = ("RESOURCE NAME", "TYPE", "STATUS", "VALID CERT", "SERIAL NUMBER", "NOT AFTER", "NOT BEFORE")
_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"


def rows(secrets: Iterable[tuple[Json, str]], now: dt.datetime) -> list[tuple[str, ...]]:
    """A row for each secret: of a chain the leaf; of roots one row each. ``now`` decides what is valid."""
    return [row for entry, state in secrets for row in _rows(entry, state, now)]


def roots(secrets: Iterable[tuple[Json, str]], name: str) -> frozenset[bytes]:
    """The roots (DER) in a validation context."""
    for entry, _ in secrets:
        if entry.get("name") == name:
            pem = _bytes(entry.get("secret", {}).get("validation_context", {}).get("trusted_ca", {}))
            return frozenset(each.public_bytes(Encoding.DER) for each in _certificates(pem))
    return frozenset()


def held(secrets: Iterable[tuple[Json, str]]) -> Iterator[tuple[str, str, x509.Certificate]]:
    """(name, TYPE, certificate) of a chain's leaf and of each root."""
    for entry, _ in secrets:
        kind, found = _content(entry)
        yield from ((str(entry.get("name", "")), kind, each) for each in found)


def _content(entry: Json) -> tuple[str, list[x509.Certificate]]:
    """TYPE and certificates: of a chain the leaf."""
    secret = entry.get("secret", {})
    if chain := secret.get("tls_certificate", {}).get("certificate_chain"):
        return "Cert Chain", _certificates(_bytes(chain))[:1]
    if context := secret.get("validation_context"):
        return "CA", _certificates(_bytes(context.get("trusted_ca", {})))
    return "", []


def _rows(entry: Json, state: str, now: dt.datetime) -> Iterator[tuple[str, ...]]:
    name = str(entry.get("name", ""))
    kind, found = _content(entry)
    if not found:
        yield name, kind, state, "false", "", "", ""
    for each in found:
        valid = str(each.not_valid_before_utc <= now <= each.not_valid_after_utc).lower()
        ends, begins = each.not_valid_after_utc.strftime(_TIME), each.not_valid_before_utc.strftime(_TIME)
        yield name, kind, state, valid, f"{each.serial_number:032x}", ends, begins


def _bytes(source: Json) -> bytes:
    if "inline_string" in source:
        return str(source["inline_string"]).encode()
    try:
        return base64.b64decode(str(source.get("inline_bytes", "")))
    except ValueError:
        return b""


def _certificates(pem: bytes) -> list[x509.Certificate]:
    try:
        return list(x509.load_pem_x509_certificates(pem)) if pem else []
    except UNREADABLE:
        return []
