r"""Labels of Istio's metrics as Envoy counts them, and what the agent makes of these when it is scraped (decision 43).

A label costs a request a look-up, once for each metric. Most of the 25 are the same for all requests of a proxy, or
say one workload in seven words. So Envoy counts by a few short labels (``istio_...``), and the agent, which writes
Istio's names anyway, writes the long ones (features row Q2). Both programs have to agree on it, hence here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from typing import Final

from wire import telemetry
from wire.telemetry import UNKNOWN

REPORTER: Final = "istio_reporter"
"""Whose count it is; then, each behind a semicolon, labels that are left out or counted under their own names."""
PEER: Final = "istio_peer"
"""The workload at the other end: as ``workload`` writes it at a client, as its proxy's header has it at a server."""
SERVICE: Final = "istio_service"
"""The service: see ``service``."""
NAMESPACE: Final = "istio_namespace"
"""A client's namespace by its certificate, where its principal is not counted."""
SHORT: Final = frozenset((REPORTER, PEER, SERVICE, NAMESPACE))
PRINCIPALS: Final = ("source_principal", "destination_principal")

_NOTHING: Final = ("", "-")
"""What Envoy says where an operator has no value, in one place or another."""
_PROTOCOL: Final = "request_protocol"
_CLIENT: Final = re.compile(r"spiffe://[^/,]*/ns/([^/,]+)/")
_PUNCTUATION: Final = re.compile(r"\W")
_ORDER: Final = ("workload", "namespace", "service", "revision", "cluster", "app", "version")
"""Of ``workload``: Istio's five, and two that are said only where they are not service and revision."""
_CANONICAL: Final = 5
_OF_WORKLOAD: Final = {
    "workload": "workload",
    "workload_namespace": "namespace",
    "app": "app",
    "version": "version",
    "canonical_service": "service",
    "canonical_revision": "revision",
    "cluster": "cluster",
}
"""The rest of a label's name -> what it says of a workload (``telemetry.PARTS``)."""
_OF_SERVICE: Final = ("destination_service", "destination_service_name", "destination_service_namespace")


class Reporter(Enum):
    """Who counts: the client's proxy, or the server's, which believes what mesh mTLS proved and nothing else."""

    SOURCE = "source"
    DESTINATION = "destination"
    STRANGERS = "strangers"


def is_short(name: str) -> bool:
    """Whether a label is one of ours to Prometheus, in whose names there is no punctuation."""
    return _PUNCTUATION.sub("_", name) in SHORT


def side(name: str, known: Mapping[str, str]) -> dict[str, str]:
    """The labels of a workload as ``source`` or ``destination``; what is not known is ``unknown``."""
    return {f"{name}_{label}": known.get(part) or UNKNOWN for label, part in _OF_WORKLOAD.items()}


def workload(parts: Mapping[str, str]) -> str:
    """A workload (``telemetry.PARTS``) as one word: as Istio's endpoints say it, with two more parts where needed."""
    said = [parts.get(part, "").replace(";", "_") for part in _ORDER]
    same = said[_CANONICAL:] == said[2:4]
    return ";".join(said[:_CANONICAL] if same else said)


def service(host: str, name: str, namespace: str) -> str:
    """A service as one word."""
    return ";".join(part.replace(";", "_") for part in (host, name, namespace))


def reporter(of: Reporter, changed: Iterable[str]) -> str:
    """The value of ``REPORTER``, where these labels are not what they are by default, or not there."""
    return ";".join((of.value, *sorted(MADE.intersection(changed))))


def is_summed(short: Mapping[str, str]) -> bool:
    """Whether several of Envoy's series may be one in the end: labels are left out, or a client may say this and that.

    What a client says of its namespace is replaced by what its certificate says.
    """
    said = short.get(REPORTER, "")
    return ";" in said or said == Reporter.DESTINATION.value


def long(short: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """Istio's labels of a series that Envoy counts; ``own`` is this proxy's workload, by ``telemetry.PARTS``.

    A series that says no ``REPORTER`` we know stays as it is.
    """
    said, *left_out = short.get(REPORTER, "").split(";")
    if said not in _REPORTERS:
        return dict(short)
    made = _made(_REPORTERS[said], short, own)
    plain = {name: value for name, value in short.items() if name not in SHORT}
    for name in PRINCIPALS:
        if plain.get(name) in _NOTHING:
            plain[name] = UNKNOWN
    if plain.get(_PROTOCOL) in _NOTHING:
        plain[_PROTOCOL] = "http"
    return {name: value for name, value in made.items() if name not in left_out} | plain


def _made(reporter: Reporter, short: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    peer = short.get(PEER, "")
    if reporter is Reporter.SOURCE:
        sides = side("source", own) | side("destination", _endpoint(peer))
        policy = UNKNOWN
    elif reporter is Reporter.DESTINATION:
        sides = side("source", _client(peer) | {"namespace": _proven(short)}) | side("destination", own)
        policy = "mutual_tls"
    else:
        sides = side("source", {}) | side("destination", own)
        policy = "none"
    return {
        "reporter": "source" if reporter is Reporter.SOURCE else "destination",
        **sides,
        **dict.fromkeys(PRINCIPALS, UNKNOWN),
        **dict(_service(short.get(SERVICE, ""))),
        "connection_security_policy": policy,
    }


def _endpoint(said: str) -> dict[str, str]:
    parts = said.split(";")
    if len(parts) == _CANONICAL:
        parts += parts[2:4]
    return dict(zip(_ORDER, parts, strict=True)) if len(parts) == len(_ORDER) else {}


def _client(said: str) -> dict[str, str]:
    parts = said.split(";")
    return dict(zip(telemetry.PARTS, parts, strict=True)) if len(parts) == len(telemetry.PARTS) else {}


def _proven(short: Mapping[str, str]) -> str:
    """A client's namespace by its certificate; the principal may be a user's own text where ``NAMESPACE`` is said."""
    if NAMESPACE in short:
        return short[NAMESPACE]
    found = _CLIENT.match(short.get(PRINCIPALS[0], ""))
    return found[1] if found else ""


def _service(said: str) -> Iterator[tuple[str, str]]:
    parts = said.split(";")
    for place, name in enumerate(_OF_SERVICE):
        yield name, (parts[place] if len(parts) == len(_OF_SERVICE) else "") or UNKNOWN


_REPORTERS: Final = {each.value: each for each in Reporter}
MADE: Final = frozenset(_made(Reporter.SOURCE, {}, {}))
"""The labels that ``long`` makes; principals only where nobody counts by them."""
