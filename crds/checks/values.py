"""Checks of single values: domains, addresses, ports, percentages, regular expressions, durations.

Each function gives the problem in words, or None. Source: Istio's pkg/config/validation and labels rules (RFC 1123).
"""

from __future__ import annotations

import ipaddress
import re
from datetime import timedelta
from typing import Final

import re2

from crds.duration import is_whole

_LABEL: Final = re.compile(r"[a-zA-Z0-9](?:[-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?\Z")
_WILD_LABEL: Final = re.compile(r"(?:\*|(?:\*-?)?[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?)\Z")
_LONGEST_LABEL: Final = 63
_LONGEST_DOMAIN: Final = 255
_HEADER: Final = re.compile(r"[-!#$%&'*+.^_`|~A-Za-z0-9]+\Z")  # a token (RFC 9110 section 5.6.2)
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
PROTOCOLS: Final = frozenset(
    {"TCP", "UDP", "HTTP", "HTTP2", "HTTP_PROXY", "HTTPS", "GRPC", "GRPC-WEB", "TLS", "MONGO", "REDIS", "MYSQL"}
    | {"HBONE", "DOUBLE-HBONE"}
)
"""Protocols of ports, in capitals; a port may write them as it likes."""
HTTP: Final = frozenset({"HTTP", "HTTP2", "HTTP_PROXY", "GRPC", "GRPC-WEB"})
"""Those that are HTTP without TLS."""
TLS: Final = frozenset({"HTTPS", "TLS"})
"""Those with TLS that is not terminated by the mesh itself."""
_LONGEST_REGEX: Final = 1024  # hostile-input SEC35
_REGEX_MEMORY: Final = 1 << 20  # bytes: bounds the program that RE2 makes of a pattern
_ZONE: Final = "%"
_HIGHEST_PORT: Final = 65535
_BREAK: Final = re.compile(r"[\x00\r\n]")
_LONGEST_DURATION: Final = timedelta(days=36_500)  # Envoy counts nanoseconds in 63 bits: 292 years
_SPKI: Final = re.compile(r"[A-Za-z0-9+/]{43}=\Z")
_HASH: Final = re.compile(r"(?:[0-9A-Fa-f]{2}:?){31}[0-9A-Fa-f]{2}\Z")
ZERO: Final = timedelta()
_MILLISECOND: Final = timedelta(milliseconds=1)
HUNDRED: Final = 100
_SMALLEST_PERCENT: Final = 0.0001


def is_label(text: str) -> bool:
    """Whether a text is a DNS label."""
    return _LABEL.match(text) is not None


def domain(name: str) -> str | None:
    """A fully qualified or short domain name without wildcard."""
    problem = _length(name)
    return problem or _labels(name, name.split("."))


def wildcard_domain(name: str) -> str | None:
    """A domain whose first label may be ``*`` or start with it."""
    problem = _length(name)
    if problem:
        return problem
    first, dot, rest = name.partition(".")
    if len(first) > _LONGEST_LABEL or not _WILD_LABEL.match(first):
        return f"domain {name!r} is invalid: label {first!r} is invalid"
    return _labels(name, rest.split(".")) if dot else None


def dotted_wildcard(name: str) -> str | None:
    """A domain whose first label may be ``*``, and nothing with ``*`` in it."""
    if "*" in name and not name.startswith("*."):
        return f"domain {name!r} is invalid: * must be a whole first label"
    return wildcard_domain(name)


def is_address(text: str) -> bool:
    """Whether a text is an IP address; one with a zone (``fe80::1%eth0``) is none to a proxy without that interface."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return _ZONE not in text


def subnet(text: str) -> str | None:
    """An IP address or CIDR block; a mask is a number of bits."""
    _, slash, bits = text.partition("/")
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return f"{text!r} is neither an IP address nor a CIDR block"
    if slash and not bits.isdecimal():
        return f"{text!r} is no CIDR block: {bits!r} is no number of bits"
    return f"{text!r} has a zone, which other machines do not have" if _ZONE in text else None


def port(number: int) -> str | None:
    """A port number from 1 to 65535."""
    return None if 0 < number <= _HIGHEST_PORT else f"port {number} is not in the range 1 to 65535"


def percent(value: float) -> str | None:
    """A percentage from 0 to 100."""
    return None if 0 <= value <= HUNDRED else f"{value:g} is not in the range 0 to 100"


def fraction(value: float) -> str | None:
    """A percentage that is 0 or from 0.0001 to 100: Envoy counts in millionths."""
    fits = value == 0 or _SMALLEST_PERCENT <= value <= HUNDRED
    return None if fits else f"{value:g} is neither 0 nor in the range 0.0001 to 100"


def regex(pattern: str) -> str | None:
    """A regular expression in RE2's syntax, which is the engine that will run it."""
    if len(pattern) > _LONGEST_REGEX:
        return f"regular expression is longer than {_LONGEST_REGEX} characters"
    options = re2.Options()
    options.max_mem = _REGEX_MEMORY
    options.log_errors = False
    try:
        re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0]
        return f"no RE2 regular expression: {reason.decode() if isinstance(reason, bytes) else reason}"
    return None


def duration(value: timedelta | None, least: timedelta = _MILLISECOND) -> str | None:
    """A duration of at least ``least`` in whole milliseconds; absent is fine."""
    if value is None:
        return None
    if value < least:
        return f"must be at least {least.total_seconds():g}s"
    if value > _LONGEST_DURATION:
        return "must be at most 100 years"
    return None if is_whole(value, _MILLISECOND) else "must be whole milliseconds"


def line(text: str) -> str | None:
    """Text that stands in one line of HTTP, as header values, paths and authorities do."""
    return f"{text!r} has a line break or a NUL in it" if _BREAK.search(text) else None


def header(name: str) -> str | None:
    """A header that a route looks at or that CORS allows."""
    if not name:
        return "a header's name must not be empty"
    return None if _HEADER.match(name) else f"{name!r} is no name of a header"


def has_control(text: str) -> bool:
    """Whether a text has a character that no header's value can have."""
    return _CONTROL.search(text) is not None


def protocol(text: str) -> str | None:
    """A port's protocol; "" is none said."""
    known = not text or text.upper() in PROTOCOLS
    return None if known else f"{text!r} is none of {', '.join(sorted(PROTOCOLS))}"


def port_name(text: str) -> str | None:
    """A port's name."""
    return None if is_label(text) else f"{text!r} is no name of a port: letters, digits and dashes only"


def socket(path: str) -> str | None:
    """A Unix domain socket without ``unix://``: a file's absolute path, or an abstract name with @."""
    fits = path.startswith("@") or (path.startswith("/") and not path.endswith("/"))
    return None if fits else f"{path!r} is no absolute path of a file and no abstract socket"


def server_name(text: str) -> str | None:
    """A name that TLS asks for; "" is none."""
    too_long = len(text.encode()) > _LONGEST_DOMAIN
    return f"server name is longer than {_LONGEST_DOMAIN} bytes" if too_long else line(text)


def spki(text: str) -> str | None:
    """A SHA-256 of a public key in base64, as ``verifyCertificateSpki`` has it."""
    return None if _SPKI.match(text) else f"{text!r} is no SHA-256 in base64"


def fingerprint(text: str) -> str | None:
    """A SHA-256 of a certificate in hex, with or without colons."""
    return None if _HASH.match(text) else f"{text!r} is no SHA-256 in hex"


def _length(name: str) -> str | None:
    if not name:
        return "a domain name must not be empty"
    return None if len(name) <= _LONGEST_DOMAIN else f"domain is longer than {_LONGEST_DOMAIN} characters"


def _labels(name: str, labels: list[str]) -> str | None:
    if labels[-1].isdecimal():
        return f"domain {name!r} is invalid: its last label is a number"
    if labels[-1] == "":
        labels = labels[:-1]  # a final dot makes a name unambiguous
    for label in labels:
        if not is_label(label):
            return f"domain {name!r} is invalid: label {label!r} is invalid"
    return None
