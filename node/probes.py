"""Probes: what a pod's YAML asks for, and what a row of answers means. Pure; node.prober asks the questions.

Fields and defaults are those of the Kubernetes API (core/v1 Probe).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpGet:
    """GET ``path``; 200 to 399 is a success."""

    path: str
    port: int
    scheme: str = "HTTP"
    host: str = ""
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpSocket:
    """A connection that is accepted is a success."""

    port: int
    host: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exec:
    """A command in the container that exits with 0 is a success."""

    command: tuple[str, ...]


Action = HttpGet | TcpSocket | Exec


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One probe. Delays in seconds."""

    action: Action
    initial_delay: float = 0.0
    period: float = 10.0
    timeout: float = 1.0
    success_threshold: int = 1
    failure_threshold: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a probe's answers so far amount to: ``value`` changes only after enough answers of one kind in a row."""

    value: bool
    successes: int = 0
    failures: int = 0

    def after(self, answer: bool, probe: Probe) -> Verdict:  # noqa: FBT001 (an answer is yes or no)
        """The verdict after one more answer."""
        if answer:
            row = self.successes + 1
            return replace(self, value=self.value or row >= probe.success_threshold, successes=row, failures=0)
        row = self.failures + 1
        return replace(self, value=self.value and row < probe.failure_threshold, successes=0, failures=row)


def port_number(port: object, ports: Sequence[Mapping[str, Any]]) -> int:
    """The number of a port that may be given by the name of a container port; 0 for an unknown name."""
    if isinstance(port, int):
        return port
    for each in ports:
        if each.get("name") == port:
            return int(each.get("containerPort", 0))
    return int(str(port)) if str(port).isdigit() else 0


def action_of(raw: Mapping[str, Any], ports: Sequence[Mapping[str, Any]]) -> Action | None:
    """The question that a probe or lifecycle hook asks; None if it is of a kind that we cannot ask."""
    if http := raw.get("httpGet"):
        headers = tuple((str(h["name"]), str(h.get("value", ""))) for h in http.get("httpHeaders") or ())
        return HttpGet(
            path=str(http.get("path") or "/"),
            port=port_number(http.get("port"), ports),
            scheme=str(http.get("scheme") or "HTTP").upper(),
            host=str(http.get("host") or ""),
            headers=headers,
        )
    if tcp := raw.get("tcpSocket"):
        return TcpSocket(port=port_number(tcp.get("port"), ports), host=str(tcp.get("host") or ""))
    if command := raw.get("exec"):
        return Exec(command=tuple(str(part) for part in command.get("command") or ()))
    return None


def probe_of(raw: Mapping[str, Any] | None, ports: Sequence[Mapping[str, Any]]) -> Probe | None:
    """The probe of a container's YAML, None where there is none or its kind is not supported (grpc)."""
    action = action_of(raw, ports) if raw else None
    if raw is None or action is None:
        return None
    return Probe(
        action=action,
        initial_delay=float(raw.get("initialDelaySeconds") or 0),
        period=float(raw.get("periodSeconds") or 10),
        timeout=float(raw.get("timeoutSeconds") or 1),
        success_threshold=int(raw.get("successThreshold") or 1),
        failure_threshold=int(raw.get("failureThreshold") or 3),
    )
