"""What a workload's proxies log, and where to: what Telemetry and ``defaultProviders`` come to (features row Q6).

Each object's word stands above the wider one's: providers that it names take the place of theirs, and without names it
speaks of theirs. Source: Istio's mergeLogs, which does not apply the filter of an entry that names nobody; here it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from crds import telemetry as api
from crds.checks import cel
from crds.diagnostic import Code, Diagnostic, warning
from crds.key import ConfigKey
from istiod.mesh.loggers import Kind, Logger, Loggers
from istiod.mesh.telemetry import Rules, TelemetryIndex

_BOTH = "CLIENT_AND_SERVER"


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """A log, and the CEL expression that says which calls are logged; "" is all."""

    to: Logger
    expression: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessLogs:
    """``client``: of calls that the workload sends, and of all of gateways; ``server``: of those that it gets."""

    client: tuple[Log, ...] = ()
    server: tuple[Log, ...] = ()

    @property
    def services(self) -> tuple[tuple[str, str], ...]:
        """Hosts, with their namespaces, that the proxy needs clusters of."""
        used = (log.to for log in (*self.client, *self.server))
        return tuple(dict.fromkeys((one.host, one.namespace) for one in used if one.kind is not Kind.FILE))

    @property
    def clusters(self) -> frozenset[str]:
        """The clusters that logs are sent through."""
        return frozenset(log.to.cluster for log in (*self.client, *self.server) if log.to.kind is not Kind.FILE)


def of(rules: Rules, loggers: Loggers) -> AccessLogs | None:
    """The logs of a workload; None where neither Telemetry nor the mesh names a provider: accessLogFile holds then."""
    if not rules.access_logging and not loggers.default:
        return None
    client, server = (tuple(_side(rules.access_logging, loggers, mode)) for mode in ("CLIENT", "SERVER"))
    return AccessLogs(client=client, server=server)


def _side(objects: Iterable[tuple[api.AccessLogging, ...]], loggers: Loggers, mode: str) -> Iterator[Log]:
    providers = loggers.default
    logs: dict[str, str] = dict.fromkeys(providers, "")
    for entries in objects:
        mine = [one for one in entries if _mode(one) in (mode, _BOTH)]
        named = tuple(dict.fromkeys(ref.name for one in mine for ref in one.providers))
        if named:
            logs = {name: said for name, said in logs.items() if name in named}
        for one in mine:
            providers = tuple(ref.name for ref in one.providers) or providers
            _apply(logs, one, providers)
        providers = named or providers
    for name, expression in logs.items():
        to = loggers.of(name)
        if not to.problem:
            yield Log(to=to, expression=expression)


def _apply(logs: dict[str, str], said: api.AccessLogging, providers: Iterable[str]) -> None:
    """An entry: its providers log, with its filter, or no more."""
    for name in providers:
        if said.disabled:
            logs.pop(name, None)
        else:
            logs[name] = said.filter.expression if said.filter else ""


def _mode(said: api.AccessLogging) -> str:
    return said.match.mode if said.match else _BOTH


def findings(index: TelemetryIndex, loggers: Loggers, mesh: ConfigKey) -> Iterator[Diagnostic]:
    """Providers that nothing can be sent to, and expressions that look at what Envoy does not know."""
    for place, name in enumerate(loggers.default):
        if problem := loggers.of(name).problem:
            field = f"data.mesh.defaultProviders.accessLogging[{place}]"
            yield warning(Code.UNKNOWN_LOG_PROVIDER, mesh, field, f"{problem}; nothing is logged there")
    for key, item in index.read.items():
        for place, said in enumerate(item.spec.access_logging):
            yield from _of_entry(key, f"spec.accessLogging[{place}]", said, loggers)


def _of_entry(key: ConfigKey, field: str, said: api.AccessLogging, loggers: Loggers) -> Iterator[Diagnostic]:
    for place, ref in enumerate(said.providers):
        if (problem := loggers.of(ref.name).problem) and not said.disabled:
            message = f"{problem}; nothing is logged there"
            yield warning(Code.UNKNOWN_LOG_PROVIDER, key, f"{field}.providers[{place}].name", message)
    for name in cel.parse(said.filter.expression).unknown if said.filter and said.filter.expression else ():
        message = f"Envoy knows no {name}: where it is looked at, nothing is logged"
        yield warning(Code.UNKNOWN_ATTRIBUTE, key, f"{field}.filter.expression", message)
