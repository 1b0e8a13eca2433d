"""What inbound ports ask of their clients (features row N1; Istio: ComposePeerAuthentication).

Mesh (root namespace), then namespace, then workload, the oldest of each; the nearest that says a mode decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from crds import peer_authentication as api
from crds.diagnostic import Code, Diagnostic, warning
from crds.key import SECURITY
from istiod.config.origin import Origin
from istiod.config.store import ConfigSnapshot
from istiod.mesh import creation
from istiod.mesh.policy import MutualTls
from istiod.mesh.service import Labels

_NO_LABELS: Labels = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One PeerAuthentication. ``mode`` None inherits; so does None in ``ports`` (the workload's port numbers).

    Only rules with a selector have ports (checked in crds).
    """

    selector: Labels
    mode: MutualTls | None
    ports: tuple[tuple[int, MutualTls | None], ...]
    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What holds for one workload: ``mode`` for every port without one of its own, ``ports`` sorted.

    ``origin`` is the nearest object that decided, None where nobody said anything.
    """

    mode: MutualTls = MutualTls.PERMISSIVE
    ports: tuple[tuple[int, MutualTls], ...] = ()
    origin: Origin | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerAuthenticationIndex:
    """The mesh's rule, one per namespace, and those with selectors by namespace, oldest first."""

    mesh: Rule | None = None
    namespaces: Mapping[str, Rule] = field(default_factory=dict)
    workloads: Mapping[str, tuple[Rule, ...]] = field(default_factory=dict)

    @property
    def disables(self) -> bool:
        """Whether any rule switches mTLS off anywhere."""
        rules = [self.mesh, *self.namespaces.values(), *(r for found in self.workloads.values() for r in found)]
        modes = (mode for r in rules if r for mode in (r.mode, *(own for _, own in r.ports)))
        return MutualTls.DISABLE in modes

    def may_differ_from(self, before: PeerAuthenticationIndex) -> bool:
        """Whether mTLS may be switched off at other endpoints than before."""
        return self is not before and (self.disables or before.disables)

    def of_port(self, namespace: str, labels: Labels, port: int) -> MutualTls:
        """The mode of one port of a workload."""
        verdict = self.of_workload(namespace, labels)
        return dict(verdict.ports).get(port, verdict.mode)

    def of_namespace(self, namespace: str) -> MutualTls:
        """The mode of a namespace as a whole: what clients can know (Istio: GetNamespaceMutualTLSMode)."""
        return _decide((self.mesh, self.namespaces.get(namespace))).mode

    def of_workload(self, namespace: str, labels: Labels) -> Verdict:
        """The modes of a workload."""
        own = next((rule for rule in self.workloads.get(namespace, ()) if rule.selector <= labels), None)
        return _decide((self.mesh, self.namespaces.get(namespace), own))


def _decide(rules: Iterable[Rule | None]) -> Verdict:
    verdict = Verdict()
    for rule in rules:
        if rule is None or (rule.mode is None and not rule.ports):
            continue
        mode = rule.mode or verdict.mode
        ports = tuple((port, own or mode) for port, own in rule.ports)
        verdict = Verdict(mode=mode, ports=ports, origin=rule.origin)
    return verdict


def build(snapshot: ConfigSnapshot, root_namespace: str) -> tuple[PeerAuthenticationIndex, tuple[Diagnostic, ...]]:
    """The index of a snapshot, with findings on rules that have no effect."""
    found = snapshot.of(SECURITY, "PeerAuthentication").values()
    items = sorted((i for i in found if isinstance(i, api.PeerAuthentication)), key=_age)
    wide: dict[str, Rule] = {}
    narrow: dict[str, list[Rule]] = {}
    findings: list[Diagnostic] = []
    for item in items:
        rule, namespace = _rule(item), item.metadata.namespace
        findings += _ineffective(item, rule, wide.get(namespace), root_namespace)
        if not rule.selector:
            wide.setdefault(namespace, rule)
        elif namespace != root_namespace:
            narrow.setdefault(namespace, []).append(rule)
    mesh = wide.pop(root_namespace, None)
    workloads = {namespace: tuple(rules) for namespace, rules in narrow.items()}
    return PeerAuthenticationIndex(mesh=mesh, namespaces=wide, workloads=workloads), tuple(findings)


def _age(item: api.PeerAuthentication) -> creation.Age:
    meta = item.metadata
    return creation.age(meta.creation_timestamp, meta.name, meta.namespace)


def _rule(item: api.PeerAuthentication) -> Rule:
    selector = item.spec.selector.match_labels if item.spec.selector else {}
    return Rule(
        selector=frozenset(selector.items()) or _NO_LABELS,
        mode=_mode(item.spec.mtls),
        ports=tuple((port, _mode(mtls)) for port, mtls in sorted(item.spec.port_level_mtls.items())),
        origin=Origin(key=item.key),
    )


def _mode(said: api.MutualTLS | None) -> MutualTls | None:
    return None if said is None or said.mode == "UNSET" else MutualTls(said.mode)


def _ineffective(
    item: api.PeerAuthentication, rule: Rule, older: Rule | None, root_namespace: str
) -> Iterator[Diagnostic]:
    if not rule.selector and older is not None:
        message = f"{older.origin.key} is older and holds for the whole namespace; this one has no effect"
        yield warning(Code.DUPLICATE_HOST, item.key, "", message)
    if rule.selector and item.metadata.namespace == root_namespace:
        message = "a rule of the root namespace holds for the whole mesh and has no selector; this one has no effect"
        yield warning(Code.INEFFECTIVE, item.key, "spec.selector", message)
