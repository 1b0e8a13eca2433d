"""HTTP rules of VirtualServices, read once per object (features rows F2-F16).

Rules of delegates come merged already (delegation.py). What does not depend on who asks is done here: names,
conditions, header operations, faults, retries. Which hosts, ports and clusters are meant depends on the client, and is
left to http_routes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta

from crds import virtual_service
from crds.diagnostic import Code, Diagnostic, error, warning
from crds.key import ConfigKey
from istiod.config.origin import Origin
from istiod.mesh import answers, conditions, cors, fault, header_operations, hosts, retries
from istiod.mesh.conditions import Condition
from istiod.mesh.delegation import Written
from istiod.mesh.header_operations import Operations
from istiod.mesh.route import Cors, DirectResponse, Fault, Redirect, Retry


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A host by its full name, a subset of it, a port of it (0: not said)."""

    host: str
    subset: str = ""
    port: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A target, its weight, what it alone changes, and where its destination stands."""

    target: Target
    weight: int
    origin: Origin
    operations: Operations = header_operations.NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """Where ``percent`` of the requests are mirrored to, and where that destination stands."""

    target: Target
    percent: float
    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRule:
    """One rule, ready but for the client: exactly one of ``shares``, ``redirect``, ``direct_response`` is set.

    ``rewrite`` stays as the user wrote it, since its meaning depends on the match. ``hashed_retry`` is for a single
    destination with a consistent hash: unless the user asks for it, a retry may then go to the same endpoint.
    """

    name: str
    origin: Origin
    conditions: tuple[Condition, ...]
    shares: tuple[Share, ...] = ()
    redirect: Redirect | None = None
    direct_response: DirectResponse | None = None
    rewrite: virtual_service.HTTPRewrite | None = None
    timeout: timedelta | None = None
    retry: Retry | None = None
    hashed_retry: Retry | None = None
    fault: Fault | None = None
    mirrors: tuple[Copy, ...] = ()
    cors: Cors | None = None
    operations: Operations = header_operations.NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """What names in an object mean, and what holds where it says nothing."""

    key: ConfigKey
    dns_domain: str
    default_retry: Retry

    def target(self, said: virtual_service.Destination | None) -> Target:
        """The target of a destination; without a host it is one that no service has."""
        said = said or virtual_service.Destination()
        return Target(
            host=hosts.resolve(said.host.lower(), self.key.namespace, self.dns_domain),
            subset=said.subset,
            port=said.port.number if said.port else 0,
        )

    def rules(
        self, said: Iterable[virtual_service.HTTPRoute], written: Iterable[Written]
    ) -> tuple[tuple[HttpRule, ...], tuple[Diagnostic, ...]]:
        """The rules that have effect, and what is wrong with the object's http rules.

        ``written`` are those that it ``said``, and its delegates' in the places of those that delegate. What is wrong
        with a delegate's own words is told when the delegate is read.
        """
        rules: list[HttpRule] = []
        findings: list[Diagnostic] = []
        for index, rule in enumerate(said):
            place = f"spec.http[{index}]"
            findings += (*_beside_answer(self.key, place, rule), *_on_claims(self.key, place, rule))
        ended = ""
        for one in written:
            if (problem := _problem(one)) is not None:
                findings += (problem,) if one.key == self.key else ()
                continue
            found = replace(self, key=one.key).rule(one)
            if ended and ended != one.root:
                findings.append(_shadowed(self.key, one.root, ended))
            rules.append(found)
            ended = ended or (one.root if any(_always(c) for c in found.conditions) else "")
        return tuple(rules), tuple(dict.fromkeys(findings))

    def rule(self, one: Written) -> HttpRule:
        """One rule of the object that this reads."""
        rule = one.rule
        said = [conditions.condition(match, self.key.namespace) for match in rule.match if conditions.can_hold(match)]
        return HttpRule(
            name=rule.name,
            origin=Origin(key=self.key, field=one.place),
            conditions=tuple(said) if rule.match else (Condition(),),
            shares=self._shares(one.place, rule.route),
            redirect=answers.redirect(rule.redirect) if rule.redirect else None,
            direct_response=answers.direct_response(rule.direct_response) if rule.direct_response else None,
            rewrite=rule.rewrite,
            timeout=rule.timeout or None,
            retry=retries.convert(rule.retries, self.default_retry),
            hashed_retry=retries.convert(rule.retries, replace(self.default_retry, ignore_previous_hosts=False)),
            fault=fault.convert(rule.fault),
            mirrors=tuple(self._mirrors(one)),
            cors=cors.convert(rule.cors_policy),
            operations=header_operations.convert(rule.headers),
        )

    def _shares(self, place: str, said: tuple[virtual_service.HTTPRouteDestination, ...]) -> tuple[Share, ...]:
        """The destinations that get traffic: a single one whatever its weight, else those above 0 (as in Istio)."""
        return tuple(
            Share(
                target=self.target(one.destination),
                weight=one.weight if len(said) > 1 else 1,
                origin=Origin(key=self.key, field=f"{place}.route[{index}].destination"),
                operations=header_operations.convert(one.headers),
            )
            for index, one in enumerate(said)
            if one.weight > 0 or len(said) == 1
        )

    def _mirrors(self, one: Written) -> Iterator[Copy]:
        rule = one.rule
        if rule.mirror is not None:
            old = 100.0 if rule.mirror_percent is None else float(rule.mirror_percent)
            percent = rule.mirror_percentage.value if rule.mirror_percentage else old
            if percent > 0:
                origin = one.mirror.child("mirror")
                yield Copy(target=self.target(rule.mirror), percent=percent, origin=origin)
        for index, said in enumerate(rule.mirrors):
            percent = said.percentage.value if said.percentage else 100.0
            if percent > 0:
                origin = one.mirrors.child(f"mirrors[{index}].destination")
                yield Copy(target=self.target(said.destination), percent=percent, origin=origin)


def _always(condition: Condition) -> bool:
    return condition.catches_all and condition.source == conditions.EVERYBODY


def _shadowed(key: ConfigKey, place: str, by: str) -> Diagnostic:
    return warning(Code.SHADOWED_ROUTE, key, place, f"is never reached: {by} matches every request")


def _problem(one: Written) -> Diagnostic | None:
    """Why a rule has no effect; None when it has."""
    rule = one.rule
    if not (rule.route or rule.redirect or rule.direct_response):
        return error(Code.MISSING_FIELD, one.key, one.place, "has neither route, redirect nor directResponse")
    if len(rule.route) > 1 and all(to.weight <= 0 for to in rule.route):
        return error(Code.WEIGHT_SUM, one.key, f"{one.place}.route", "all weights are 0; the rule is left out")
    return None


def _on_claims(key: ConfigKey, place: str, rule: virtual_service.HTTPRoute) -> Iterator[Diagnostic]:
    """Conditions on claims that name none."""
    message = "names no claim (@request.auth.claims.NAME or @request.auth.claims[NAME]), and no request has it"
    for index, match in enumerate(rule.match):
        for field in conditions.malformed_claims(match):
            yield error(Code.BAD_VALUE, key, f"{place}.match[{index}].{field}", message)


def _beside_answer(key: ConfigKey, place: str, rule: virtual_service.HTTPRoute) -> Iterator[Diagnostic]:
    """What is about an upstream, where the proxy answers itself and it is said all the same."""
    if rule.redirect is None and rule.direct_response is None:
        return
    wanted = {
        "timeout": bool(rule.timeout),
        "retries": rule.retries is not None,
        "mirror": rule.mirror is not None,
        "mirrors": bool(rule.mirrors),
    }
    for name in (name for name, said in wanted.items() if said):
        message = "has no effect where the proxy itself answers"
        yield warning(Code.NOT_SUPPORTED, key, f"{place}.{name}", message)
