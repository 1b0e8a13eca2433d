"""Rules that a VirtualService leaves to another one: both made one rule (features row F9).

Istio merges the two as written, and so does this: what the delegate says counts, what it leaves open the root's rule
says, and of the conditions each of the delegate's must lie within one of the root's. What the merged rules mean is
http_rules' business. Source: Istio's VirtualService reference ("Delegate") and its merge of delegates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from crds.diagnostic import Code, Diagnostic, error, warning
from crds.key import NETWORKING, ConfigKey
from crds.virtual_service import Delegate, Destination, HTTPMatchRequest, HTTPRoute, StringMatch, VirtualService
from istiod.config.origin import Origin
from istiod.mesh import conditions, hosts, registry

KIND: Final = "VirtualService"
_INHERITED: Final = (
    "rewrite",
    "direct_response",
    "timeout",
    "retries",
    "fault",
    "mirror_percent",
    "mirror_percentage",
    "cors_policy",
    "headers",
)
_ONE: Final = ("uri", "scheme", "method", "authority")
_SEVERAL: Final = ("headers", "without_headers", "query_params")

Find = Callable[[ConfigKey], VirtualService | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A rule, and where it stands: ``key`` and ``place`` of the object that says where requests go.

    ``root`` is the place of the rule that delegates to it; ``mirror`` and ``mirrors`` are the rules that those fields
    are from. A rule that nobody delegates to is all of these itself.
    """

    key: ConfigKey
    place: str
    rule: HTTPRoute
    root: str
    mirror: Origin
    mirrors: Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class Delegation:
    """What delegation depends on: other objects, who sees them by default, and the mesh's domain."""

    find: Find
    export_to: tuple[str, ...] = ("*",)
    dns_domain: str = "cluster.local"

    def expand(self, item: VirtualService) -> tuple[tuple[Written, ...], tuple[Diagnostic, ...]]:
        """The http rules of an object, those of its delegates in the places of the rules that name them."""
        found: list[Written] = []
        findings: list[Diagnostic] = []
        for index, rule in enumerate(item.spec.http):
            place = f"spec.http[{index}]"
            if rule.delegate is None:
                own = Origin(key=item.key, field=place)
                found.append(Written(key=item.key, place=place, rule=rule, root=place, mirror=own, mirrors=own))
                continue
            for each in self._delegated(item, place, rule, rule.delegate):
                if isinstance(each, Written):
                    found.append(each)
                else:
                    findings.append(each)
        return tuple(found), tuple(findings)

    def _delegated(
        self, root: VirtualService, place: str, rule: HTTPRoute, named: Delegate
    ) -> Iterator[Written | Diagnostic]:
        field = f"{place}.delegate"
        if not root.spec.hosts:
            yield error(Code.UNKNOWN_DELEGATE, root.key, field, "a delegate may not delegate further")
            return
        key = key_of(root.key, named)
        other = self.find(key)
        if (problem := self._problem(root, key, other)) or other is None:
            yield error(Code.UNKNOWN_DELEGATE, root.key, field, f"{problem}; the rule is left out")
            return
        ours, at_root = absolute(rule, root.key.namespace, self.dns_domain), Origin(key=root.key, field=place)
        for index, theirs in enumerate(other.spec.http):
            there = Origin(key=key, field=f"spec.http[{index}]")
            if theirs.delegate is not None:
                continue  # told of the delegate itself
            merged = merge(ours, absolute(theirs, key.namespace, self.dns_domain))
            if merged is None:
                yield from _outside(at_root, there)
                continue
            yield Written(
                key=key,
                place=there.field,
                rule=merged,
                root=place,
                mirror=there if theirs.mirror else at_root,
                mirrors=there if theirs.mirrors else at_root,
            )

    def _problem(self, root: VirtualService, key: ConfigKey, other: VirtualService | None) -> str:
        if other is None:
            return f"there is no VirtualService {key.namespace}/{key.name}"
        if other.spec.hosts:
            return f"VirtualService {key.namespace}/{key.name} has hosts, so that nobody can delegate to it"
        if not registry.exported(
            registry.audience(other.spec.export_to, key.namespace, self.export_to), root.key.namespace
        ):
            return f"VirtualService {key.namespace}/{key.name} is not exported to {root.key.namespace}"
        return ""


def named(item: VirtualService) -> tuple[ConfigKey, ...]:
    """The keys of all objects that an object delegates to; they need not exist."""
    return tuple(key_of(item.key, rule.delegate) for rule in item.spec.http if rule.delegate is not None)


def key_of(root: ConfigKey, said: Delegate) -> ConfigKey:
    """The object that an object in the namespace of ``root`` means."""
    return ConfigKey(NETWORKING, KIND, said.namespace or root.namespace, said.name)


def unused(objects: Mapping[ConfigKey, VirtualService]) -> Iterator[Diagnostic]:
    """Objects without hosts that no other one delegates to."""
    wanted = {key for item in objects.values() if item.spec.hosts for key in named(item)}
    for key, item in objects.items():
        if not item.spec.hosts and key not in wanted:
            message = "without hosts its rules serve where another VirtualService delegates to it, and none does"
            yield warning(Code.INEFFECTIVE, key, "spec.hosts", message)


def absolute(rule: HTTPRoute, namespace: str, dns_domain: str) -> HTTPRoute:
    """A rule that means the same in every namespace: full names of gateways and of mirrors.

    Destinations stay short: they stand in one of the two rules only.
    """

    def full(said: Destination) -> Destination:
        return said.model_copy(update={"host": hosts.resolve(said.host.lower(), namespace, dns_domain)})

    matches = (
        match.model_copy(update={"gateways": tuple(conditions.resolve_gateway(g, namespace) for g in match.gateways)})
        for match in rule.match
    )
    mirrors = (
        one.model_copy(update={"destination": full(one.destination)}) if one.destination else one
        for one in rule.mirrors
    )
    changed = {
        "match": tuple(matches),
        "mirror": full(rule.mirror) if rule.mirror else None,
        "mirrors": tuple(mirrors),
    }
    return rule.model_copy(update=changed)


def merge(root: HTTPRoute, delegate: HTTPRoute) -> HTTPRoute | None:
    """The delegate's rule within the root's; None when some condition of it lies in none of the root's."""
    matches = _matches(root.match, delegate.match)
    if matches is None:
        return None
    changed: dict[str, object] = {
        "name": _joined(root.name, delegate.name),
        "match": matches,
        "mirror": delegate.mirror or root.mirror,
        "mirrors": delegate.mirrors or root.mirrors,
    }
    for field in _INHERITED:
        if getattr(delegate, field) is None:
            changed[field] = getattr(root, field)
    return delegate.model_copy(update=changed)


def _matches(
    root: tuple[HTTPMatchRequest, ...], delegate: tuple[HTTPMatchRequest, ...]
) -> tuple[HTTPMatchRequest, ...] | None:
    """Each of the delegate's conditions within each of the root's that leaves room for it."""
    if not (root and delegate):
        return root or delegate
    found: list[HTTPMatchRequest] = []
    for leaf in delegate:
        around = [one for one in root if _holds(one, leaf)]
        if not around:
            return None
        found += (_within(one, leaf) for one in around)
    return tuple(found)


def _within(root: HTTPMatchRequest, leaf: HTTPMatchRequest) -> HTTPMatchRequest:
    changed: dict[str, object] = {
        "name": _joined(root.name, leaf.name),
        "source_labels": {**root.source_labels, **leaf.source_labels},
    }
    for field in _SEVERAL:
        changed[field] = {**getattr(root, field), **getattr(leaf, field)}
    for field in (*_ONE, "port", "source_namespace", "gateways", "stat_prefix"):
        changed[field] = getattr(leaf, field) or getattr(root, field)
    return leaf.model_copy(update=changed)


def _joined(root: str, leaf: str) -> str:
    return f"{root}-{leaf}" if root and leaf else root or leaf


def _holds(root: HTTPMatchRequest, leaf: HTTPMatchRequest) -> bool:
    """Whether a delegate's condition asks for no other requests and clients than the root's."""
    pairs = [(getattr(root, field), getattr(leaf, field)) for field in _ONE]
    for field in _SEVERAL:
        outer = getattr(root, field)
        pairs += [(outer.get(name), value) for name, value in getattr(leaf, field).items()]
    if any(_excludes(outer, inner) for outer, inner in pairs):
        return False
    same_port = not (root.port and leaf.port) or root.port == leaf.port
    return same_port and root.ignore_uri_case == leaf.ignore_uri_case and _same_clients(root, leaf)


def _same_clients(root: HTTPMatchRequest, leaf: HTTPMatchRequest) -> bool:
    """A root for one namespace wants the delegate to name it, as on Istio."""
    labels = root.source_labels
    gateways = not (root.gateways and leaf.gateways) or set(leaf.gateways) <= set(root.gateways)
    return (
        gateways
        and root.source_namespace in ("", leaf.source_namespace)
        and all(labels.get(name, value) == value for name, value in leaf.source_labels.items())
    )


def _excludes(root: StringMatch | None, leaf: StringMatch | None) -> bool:
    """Whether a delegate's condition on a value is not known to lie within the root's: nothing is beside a regex."""
    if root is None or leaf is None:
        return False
    if root.regex or leaf.regex:
        return True
    if root.exact:
        return leaf.exact != root.exact
    inner = leaf.prefix or leaf.exact
    return not (root.prefix and inner and inner.startswith(root.prefix))


def _outside(root: Origin, leaf: Origin) -> Iterator[Diagnostic]:
    """A delegate's rule that is left out: told of both objects."""
    reason = "a condition of it lies in none of those of the rule that delegates to it"
    message = f"is left out where {root} delegates to it: {reason}"
    yield warning(Code.INEFFECTIVE, leaf.key, f"{leaf.field}.match", message)
    yield warning(Code.INEFFECTIVE, root.key, f"{root.field}.delegate", f"{leaf} is left out: {reason}")
