"""A request of the past, from its line in an access log: Istio's text or JSON, with or without the rule at its end.

A line does not hold all headers, so what is asked anew may come out otherwise than it did; where it does, that is said.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from istioctl.errors import CommandError
from istiod.config.origin import Origin
from istiod.envoy import blame
from istiod.explain.answer import Stage
from istiod.explain.call import Call, Direction, Tls
from istiod.explain.journey import Hop, Journey, Mesh, Party, follow
from istiod.explain.question import Question, is_address
from wire import decimal

_TOKEN: Final = re.compile(r'\[[^\]]*\]|"(?:[^"\\]|\\.)*"|\S+')
_FIELDS: Final = (
    *("start_time", "request", "response_code", "response_flags", "response_code_details"),
    *("connection_termination_details", "upstream_transport_failure_reason", "bytes_received", "bytes_sent"),
    *("duration", "upstream_service_time", "x_forwarded_for", "user_agent", "request_id", "authority"),
    *("upstream_host", "upstream_cluster", "upstream_local_address", "downstream_local_address"),
    *("downstream_remote_address", "requested_server_name", "route_name", "rule", "rule_field"),
)
"""Istio's default line (istiod.envoy.access_log), then the rule."""
_LEAST: Final = 22
_NOTHING: Final = ("", "-")
FLAGS: Final[Mapping[str, str]] = {
    "DC": "the client went away",
    "DI": "a delay was injected",
    "DPE": "the client broke the protocol",
    "DT": "the time for the request or connection was over",
    "FI": "an answer was injected",
    "IH": "a header had a value that is not allowed",
    "LH": "the endpoint failed a health check",
    "LR": "the connection was reset by the proxy",
    "NC": "the route's cluster does not exist",
    "NFCF": "no filter chain fitted the connection",
    "NR": "no route fitted, or no filter chain",
    "OM": "the proxy had no memory left",
    "RL": "a rate limit was reached",
    "SI": "the stream was idle for too long",
    "UAEX": "an external provider refused it",
    "UC": "the endpoint closed the connection",
    "UF": "no connection to the endpoint came about",
    "UH": "no endpoint was healthy",
    "UMSDR": "the longest duration of a stream was over",
    "UO": "a circuit breaker was open",
    "UPE": "the endpoint broke the protocol",
    "UR": "the endpoint reset the stream",
    "URX": "it was retried as often as allowed",
    "UT": "the endpoint took too long",
}
"""Envoy's response flags (access log documentation of Envoy 1.40)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What a line says. ``origin`` is the rule behind the request, None where the line names none."""

    fields: Mapping[str, str]
    method: str
    path: str
    protocol: str
    origin: Origin | None

    def of(self, name: str) -> str:
        """A field; "" where it says nothing."""
        said = self.fields.get(name, "")
        return "" if said in _NOTHING else said


def parsed(line: str) -> Past:
    """The line taken apart.

    Raises:
        CommandError: it is none of Istio's.
    """
    text = line.strip()
    fields = _of_json(text) if text.startswith("{") else _of_text(text)
    method, path, protocol = (*fields.get("request", "").split(" "), "", "", "")[:3]
    method, path = fields.get("method", method), fields.get("path", path)
    rule, field = fields.get("rule", ""), fields.get("rule_field", "")
    key = blame.key_of(rule) if rule not in _NOTHING else None
    return Past(
        fields=fields,
        method="" if method in _NOTHING else method,
        path="" if path in _NOTHING else path,
        protocol=fields.get("protocol", protocol),
        origin=None if key is None else Origin(key=key, field="" if field in _NOTHING else field),
    )


def _of_json(text: str) -> Mapping[str, str]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CommandError(f"the log line is no JSON: {error}") from error
    if "downstream_local_address" not in found:
        raise CommandError("the log line lacks downstream_local_address: it is not of Istio's JSON format")
    return {str(name): "" if value is None else str(value) for name, value in found.items()}


def _of_text(text: str) -> Mapping[str, str]:
    tokens = [token[1:-1] if token[0] in '["' else token for token in _TOKEN.findall(text)]
    if len(tokens) < _LEAST:
        raise CommandError(f"the log line has {len(tokens)} fields, Istio's has {_LEAST} or more")
    return dict(zip(_FIELDS, tokens, strict=False))


def travel(mesh: Mesh, workload: str, namespace: str, past: Past) -> Journey:
    """Ask the proxy that wrote the line anew.

    Raises:
        CommandError: it is not known, or the line does not say where the connection went.
    """
    party = mesh.find(workload, namespace)
    call = _call(mesh, party, past)
    hop = follow(mesh, party, call)
    asked = Question(
        workload=party.name,
        scheme="http" if call.http else "tcp",
        host=_split(past.of("authority"))[0] or call.destination,
        port=call.port,
        path=call.path,
        method=call.method,
    )
    return Journey(question=asked, client=party, first=hop, notes=tuple(_notes(past, hop)))


def _call(mesh: Mesh, party: Party, past: Past) -> Call:
    destination, port = _split(past.of("downstream_local_address"))
    source, source_port = _split(past.of("downstream_remote_address"))
    if not is_address(destination) or not port:
        raise CommandError("the log line does not say where the connection went (downstream_local_address)")
    cluster = past.of("upstream_cluster")
    inbound = cluster.lower().startswith("inbound") or (not cluster and destination == party.address)
    direction = Direction.GATEWAY if party.router else Direction.INBOUND if inbound else Direction.OUTBOUND
    caller = mesh.at(source) if source else None
    sni = past.of("requested_server_name")
    mutual = bool(sni) and inbound
    http2 = past.protocol == "HTTP/2"
    headers = {"user-agent": past.of("user_agent"), "x-forwarded-for": past.of("x_forwarded_for")}
    return Call(
        direction=direction,
        source=source or "192.0.2.1",
        source_port=source_port,
        destination=destination,
        port=port,
        http=bool(past.method),
        http2=http2,
        tls=Tls.MUTUAL if mutual else Tls.SIMPLE if sni else Tls.NONE,
        sni=sni,
        alpn=(("istio-h2" if http2 else "istio-http/1.1", "istio") if past.method else ("istio",)) if mutual else (),
        principal=caller.identity if caller is not None and mutual else "",
        unnamed=mutual and caller is None,  # the address is that of whom x-forwarded-for names
        authority=past.of("authority"),
        path=past.path or "/",
        method=past.method or "GET",
        headers={name: value for name, value in headers.items() if value},
    )


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    number = decimal.number(port)
    return (address, 0) if number is None else (host.strip("[]"), number)


def _notes(past: Past, hop: Hop) -> Iterator[str]:
    code, flags = past.of("response_code"), past.of("response_flags")
    words = [FLAGS.get(flag, flag) for flag in flags.split(",") if flag]
    details = past.of("response_code_details")
    yield f"then: {code or 'no answer'}" + "".join(f", {one}" for one in (*words, details) if one)
    if failure := past.of("upstream_transport_failure_reason"):
        yield f"then: {failure}"
    if cluster := past.of("upstream_cluster"):
        yield f"then: sent to {cluster} at {past.of('upstream_host') or 'no endpoint'}"
    now = hop.answer.step(Stage.ROUTE)
    if past.origin is not None and (now is None or now.origin != past.origin):
        yield f"then: by {past.origin.key} {past.origin.field}; below is what would be now"
        yield "the configuration has changed since, or the request had headers that the log does not show"
    elif past.of("upstream_cluster") and past.of("upstream_cluster") not in {one.cluster for one in hop.answer.targets}:
        yield "now it would go elsewhere: see below"
    yield "of the headers, the log shows user-agent and x-forwarded-for only; rules by others are taken as if none came"
