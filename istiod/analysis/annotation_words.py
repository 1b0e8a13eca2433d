"""What is wrong with the value of an annotation, in the words of Istio, whose own checks are few. Pure.

Which other values the webhook refuses is webhook.annotations' to say.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Mapping
from typing import Final

from crds import proxy_annotation
from crds.diagnostic import Severity
from crds.key import ConfigKey
from webhook import annotations as injection

_Words = Callable[[str], str]
_DIGITS: Final = re.compile(r"[0-9]+")
_PREFIX_LENGTH: Final = re.compile(r"0|[1-9][0-9]{0,2}")
_LONGEST_NUMBER: Final = 20
"""Digits beyond which a number is out of any range; Python itself refuses to read thousands of them."""


def problem(name: str, value: str, key: ConfigKey) -> str:
    """Why a value is invalid; "" where it is not.

    Args:
        name: the annotation's.
        value: what it says.
        key: the object that has it.
    """
    if name == proxy_annotation.NAME:
        found = [each for each in proxy_annotation.check(value, key) if each.severity is Severity.ERROR]
        return f"failed to convert to apply proxy config: {found[0].message}" if found else ""
    if name in _WORDS:
        return _WORDS[name](value)
    check = injection.CHECKS.get(name)
    return f"must be {check[1]}, not {value!r}" if check is not None and not check[0](value) else ""


def _number(bits: int) -> _Words:
    return lambda value: _unsigned(value, bits)


def _unsigned(value: str, bits: int) -> str:
    """A number without sign, as strconv.ParseUint reads it."""
    if not _DIGITS.fullmatch(value):
        return f"strconv.ParseUint: parsing {json.dumps(value)}: invalid syntax"
    short = value.lstrip("0")
    if len(short) > _LONGEST_NUMBER or int(short or "0") >= 1 << bits:
        return f"strconv.ParseUint: parsing {json.dumps(value)}: value out of range"
    return ""


def _truth(value: str) -> str:
    fits = value in injection.TRUE | injection.FALSE
    return "" if fits else f"strconv.ParseBool: parsing {json.dumps(value)}: invalid syntax"


def _mode(value: str) -> str:
    return "" if value in injection.MODES else f"interceptionMode invalid, use REDIRECT,TPROXY,NONE: {value}"


def _port(value: str) -> str:
    wrong = _unsigned(value.strip(), 16)
    return f"failed parsing port '{value}': {wrong}" if wrong else ""


def _status_port(value: str) -> str:
    wrong = _port(value)
    return f"excludeInboundPorts invalid: {wrong}" if wrong else ""  # the name that Istio gives it here, too


def _ports(name: str, *, or_all: bool = False) -> _Words:
    def words(value: str) -> str:
        listed = [] if not value.strip() or (or_all and value == "*") else value.strip().split(",")
        for each in listed:
            if wrong := _port(each):
                return f"{name} invalid: failed parsing port '{each}': {wrong}"
        return ""

    return words


def _ranges(name: str, *, or_all: bool = False) -> _Words:
    def words(value: str) -> str:
        listed = [] if not value or (or_all and value == "*") else value.split(",")
        for each in listed:
            if wrong := _prefix(each):
                said = f"netip.ParsePrefix({json.dumps(each)}): {wrong}"
                return f"{name} invalid: failed parsing cidr '{each}': {said}"
        return ""

    return words


def _prefix(value: str) -> str:
    """A range of addresses, as netip.ParsePrefix reads it."""
    address, slash, length = value.rpartition("/")
    if not slash:
        return "no '/'"
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return f"ParseAddr({json.dumps(address)}): unable to parse IP"
    if "%" in address:
        return "IPv6 zones cannot be present in a prefix"
    if not _PREFIX_LENGTH.fullmatch(length):
        return f"bad bits after slash: {json.dumps(length)}"
    return "" if int(length) <= found.max_prefixlen else "prefix length out of range"


_WORDS: Final[Mapping[str, _Words]] = {
    f"{injection.SIDECAR}interceptionMode": _mode,
    injection.STATUS_PORT: _status_port,
    f"{injection.READINESS}initialDelaySeconds": _number(32),
    f"{injection.READINESS}periodSeconds": _number(32),
    f"{injection.READINESS}failureThreshold": _number(32),
    f"{injection.TRAFFIC}includeOutboundIPRanges": _ranges("includeIPRanges", or_all=True),
    f"{injection.TRAFFIC}excludeOutboundIPRanges": _ranges("excludeIPRanges"),
    f"{injection.TRAFFIC}includeInboundPorts": _ports("includeInboundPorts", or_all=True),
    f"{injection.TRAFFIC}excludeInboundPorts": _ports("excludeInboundPorts"),
    f"{injection.TRAFFIC}excludeOutboundPorts": _ports("excludeOutboundPorts"),
    injection.MERGE_METRICS: _truth,
}
"""What Istio checks, and in which words it says what is wrong."""
