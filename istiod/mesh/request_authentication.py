"""RequestAuthentications: which hold for a workload, whose tokens they take, and the keys for these (rows N12, N13).

Those of the root namespace and of the workload's own hold together, as far as their selectors choose it. Keys are data
here: inline, fetched before (ConfigSnapshot.key_sets), or left to Envoy; where there are none, a key that nobody has
the private part of refuses every token.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from crds import request_authentication as api
from crds.diagnostic import Code, Diagnostic, error, warning
from crds.key import SECURITY, ConfigKey
from istiod.config import key_sets
from istiod.config.key_sets import KeySets, KeySource, Wish
from istiod.config.store import ConfigSnapshot, Kind
from istiod.features import KeyFetch
from istiod.mesh import creation, jwt
from istiod.mesh.grouping import grouped
from istiod.mesh.jwt import Provider, Providers, Remote
from istiod.mesh.registry import Registry
from istiod.mesh.service import Labels
from istiod.mesh.settings import MeshSettings

_KIND: Final = (SECURITY, "RequestAuthentication")
KINDS: Final[tuple[Kind, ...]] = (_KIND, (key_sets.CHANGED.group, key_sets.CHANGED.kind))
"""What the index is made of, beside services."""
_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """One RequestAuthentication. An empty ``selector`` is every workload of its namespace (root: of the mesh)."""

    key: ConfigKey
    age: creation.Age
    selector: Labels
    providers: Providers

    @property
    def name(self) -> str:
        """What stands for it in ScopeKey.tokens."""
        return f"{self.key.namespace}/{self.key.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """What an object came to, kept for as long as it stays the same object with the same keys."""

    item: api.RequestAuthentication
    age: creation.Age
    policy: Policy | None
    findings: tuple[Diagnostic, ...]
    wishes: tuple[tuple[KeySource, Wish], ...]
    keys: tuple[str | None, ...]
    """Of each wish, what was fetched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestAuthenticationIndex:
    """By namespace, oldest first, and the key sets that somebody has to fetch for them."""

    root_namespace: str = ""
    by_namespace: Mapping[str, tuple[Policy, ...]] = field(default_factory=dict)
    wishes: Mapping[KeySource, Wish] = field(default_factory=dict)
    findings: tuple[Diagnostic, ...] = ()
    read: Mapping[ConfigKey, _Read] = field(default_factory=dict, compare=False, repr=False)
    basis: tuple[MeshSettings, Registry | None] | None = field(default=None, compare=False, repr=False)
    """What else the objects were read by: the registry only where Envoy fetches keys."""

    def matched(self, namespace: str, labels: Labels) -> tuple[str, ...]:
        """Names of those that hold for a workload: of the root namespace first, then its own."""
        return tuple(one.name for one in self._holding(namespace, labels))

    def named(self, names: Iterable[str]) -> Providers:
        """The providers of policies by their names."""
        known = {one.name: one for home in self.by_namespace.values() for one in home}
        return _composed(known[name] for name in names if name in known)

    def of_workload(self, namespace: str, labels: Labels) -> Providers:
        """The providers that hold for a workload."""
        return _composed(self._holding(namespace, labels))

    def _holding(self, namespace: str, labels: Labels) -> Iterator[Policy]:
        for home in dict.fromkeys((self.root_namespace, namespace)):
            yield from (one for one in self.by_namespace.get(home, ()) if one.selector <= labels)


def _composed(policies: Iterable[Policy]) -> Providers:
    """All rules, in the order of their issuers (as Istio, for the same output whatever the order of events)."""
    return tuple(sorted((p for one in policies for p in one.providers), key=lambda provider: provider.issuer))


def build(
    snapshot: ConfigSnapshot, settings: MeshSettings, registry: Registry, previous: RequestAuthenticationIndex
) -> RequestAuthenticationIndex:
    """The index of a snapshot, with what is wrong with its objects; ``previous`` where it is equal.

    An object that is the same, with the same keys, is not read again.
    """
    found = ((key, one) for key, one in snapshot.of(*_KIND).items() if isinstance(one, api.RequestAuthentication))
    basis = (settings, None if settings.features.key_fetch is KeyFetch.ISTIOD else registry)
    known = previous.read if previous.basis is not None and _same(previous.basis, basis) else {}
    reader = _Reader(key_sets=snapshot.key_sets, settings=settings, registry=registry)
    each = sorted(((key, reader.again(item, known.get(key))) for key, item in found), key=lambda pair: pair[1].age)
    read = dict(each)
    wishes: dict[KeySource, Wish] = {}
    for one in read.values():
        for source, wish in one.wishes:
            wishes[source] = _together(wishes[source], wish) if source in wishes else wish
    policies = (one.policy for one in read.values() if one.policy)
    index = RequestAuthenticationIndex(
        root_namespace=settings.root_namespace,
        by_namespace=grouped((one.key.namespace, one) for one in policies),
        wishes=wishes,
        findings=tuple(finding for one in read.values() for finding in one.findings),
        read=read,
        basis=basis,
    )
    return previous if index == previous else index


def _same(before: tuple[MeshSettings, Registry | None], now: tuple[MeshSettings, Registry | None]) -> bool:
    return before[1] is now[1] and before[0] == now[0]


def first_wishes(snapshot: ConfigSnapshot) -> Mapping[KeySource, Wish]:
    """The key sets that the mesh will want, as far as objects alone say it: what is worth waiting for at the start."""
    settings = MeshSettings(features=snapshot.features)
    return build(snapshot, settings, Registry(), RequestAuthenticationIndex()).wishes


def _age(item: api.RequestAuthentication) -> creation.Age:
    meta = item.metadata
    return creation.age(meta.creation_timestamp, meta.name, meta.namespace)


def _rules(item: api.RequestAuthentication) -> Iterator[tuple[str, api.JWTRule]]:
    for index, rule in enumerate(item.spec.jwt_rules):
        yield f"spec.jwtRules[{index}]", rule


def _together(known: Wish, more: Wish) -> Wish:
    """One fetch for all rules that want it, with the patience of the most patient."""
    return Wish(timeout=max(known.timeout, more.timeout), places=(*known.places, *more.places))


def _ineffective(item: api.RequestAuthentication) -> Iterator[Diagnostic]:
    refs = "spec.targetRef" if item.spec.target_ref is not None else "spec.targetRefs"
    if item.spec.target_ref is not None or item.spec.target_refs:
        message = "resources of the Gateway API have no proxies here, and there are no waypoints: no token is looked at"
        yield error(Code.INEFFECTIVE, item.key, refs, message)
    elif not item.spec.jwt_rules:
        yield warning(Code.INEFFECTIVE, item.key, "spec.jwtRules", "names no issuer: no token is looked at")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reader:
    """Reads rules. What hosts mean comes from the registry."""

    key_sets: KeySets
    settings: MeshSettings
    registry: Registry

    def again(self, item: api.RequestAuthentication, known: _Read | None) -> _Read:
        """One object: as it was read before, if nothing about it has changed since."""
        if known is not None and known.item is item and known.keys == self._keys(known.wishes):
            return known
        findings = tuple(_ineffective(item))
        if item.spec.target_ref is not None or item.spec.target_refs:
            return _Read(item=item, age=_age(item), policy=None, findings=findings, wishes=(), keys=())
        rules = tuple(_rules(item))
        findings += tuple(finding for place, rule in rules for finding in self.findings(item.key, place, rule))
        wishes = tuple(
            (source, Wish(timeout=rule.timeout or jwt.TIMEOUT, places=((item.key, place),)))
            for place, rule in rules
            if (source := self.source(rule)) is not None
        )
        made, keys = self.policy(item), self._keys(wishes)
        return _Read(item=item, age=made.age, policy=made, findings=findings, wishes=wishes, keys=keys)

    def _keys(self, wishes: Iterable[tuple[KeySource, Wish]]) -> tuple[str | None, ...]:
        return tuple(self.key_sets.get(source) for source, _ in wishes)

    def policy(self, item: api.RequestAuthentication) -> Policy:
        """One object, read."""
        selector = item.spec.selector.match_labels if item.spec.selector else {}
        return Policy(
            key=item.key,
            age=_age(item),
            selector=frozenset(selector.items()),
            providers=tuple(self.provider(rule) for rule in item.spec.jwt_rules),
        )

    def provider(self, rule: api.JWTRule) -> Provider:
        """One rule, read."""
        remote = self.remote(rule)
        source = self.source(rule)
        fetched = self.key_sets.get(source) if source is not None else rule.jwks
        return Provider(
            issuer=rule.issuer,
            keys="" if remote else fetched or jwt.NOBODYS,
            remote=remote,
            audiences=rule.audiences,
            headers=tuple((one.name, one.prefix) for one in rule.from_headers),
            params=rule.from_params,
            cookies=rule.from_cookies,
            payload_header=rule.output_payload_to_header,
            claim_headers=tuple((one.header, one.claim) for one in rule.output_claim_to_headers),
            forward=rule.forward_original_token,
            space_delimited=tuple(sorted({*jwt.SPACE_DELIMITED, *rule.space_delimited_claims})),
            required=rule.presence == "REQUIRED",
        )

    def source(self, rule: api.JWTRule) -> KeySource | None:
        """What the control plane has to fetch for a rule; None where keys stand in it, or Envoy fetches them."""
        if rule.jwks or self.remote(rule) is not None:
            return None
        if rule.jwks_uri:
            return KeySource(uri=rule.jwks_uri)
        return KeySource(uri="", issuer=rule.issuer) if _is_url(rule.issuer) else None

    def remote(self, rule: api.JWTRule) -> Remote | None:
        """The keys that Envoy fetches, where the operator wants that (PILOT_JWT_ENABLE_REMOTE_JWKS).

        A host that no service has is left to the control plane in mode hybrid; in mode envoy the cluster is named all
        the same, though it does not exist, so that every token is refused.
        """
        mode = self.settings.features.key_fetch
        if mode is KeyFetch.ISTIOD or not rule.jwks_uri or rule.jwks:
            return None
        parts = urlsplit(rule.jwks_uri)
        host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)
        known = self._known(host)
        if not known and mode is KeyFetch.HYBRID:
            return None
        cluster = f"outbound|{port}||{known or host}"
        return Remote(uri=rule.jwks_uri, cluster=cluster, timeout=rule.timeout or jwt.TIMEOUT)

    def _known(self, host: str) -> str:
        """The host of the one service that a name means, also where it is short (``name.namespace``); else ""."""
        names = dict.fromkeys((host, f"{host}.svc.{self.settings.dns_domain}", f"{host}.{self.settings.dns_domain}"))
        return next((name for name in names if len(self.registry.by_host.get(name, ())) == 1), "")

    def findings(self, key: ConfigKey, place: str, rule: api.JWTRule) -> Iterator[Diagnostic]:
        """Why tokens of a rule are all refused, where nobody has to be asked to know."""
        remote = self.remote(rule)
        if remote is not None and not self._known(urlsplit(rule.jwks_uri).hostname or ""):
            message = f"no service has this host, so that proxies have no cluster {remote.cluster}: tokens are refused"
            yield error(Code.UNKNOWN_HOST, key, f"{place}.jwksUri", message)
        elif remote is None and rule.issuer and not rule.jwks and self.source(rule) is None:  # else told as unreadable
            message = (
                "neither jwks nor jwksUri is given, and the issuer is no URL where keys could be: tokens are refused"
            )
            yield error(Code.MISSING_FIELD, key, f"{place}.jwksUri", message)


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in _PORTS and bool(parts.hostname) and text.isprintable()
