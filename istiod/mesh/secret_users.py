"""Whom the mesh would give Secrets: accounts of pods that an object with credentials selects (hostile-input SEC63).

Only for these the API server is asked whether they may read Secrets. A pod's event costs a look at that pod; whether a
pod is a router is not known here, so a few too many are asked for, never too few.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from crds import core, destination_rule, gateway
from crds.key import NETWORKING, ConfigKey
from istiod.config.secret_rights import Account, Users
from istiod.config.store import ConfigSnapshot, Kind
from wire import names

PODS: Final[Kind] = ("", "Pod")
RULES: Final[frozenset[Kind]] = frozenset({(NETWORKING, "Gateway"), (NETWORKING, "DestinationRule")})
"""Kinds that name credentials."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class _Selector:
    """``key`` gives credentials to pods with these labels; in ``namespace``, or anywhere where that is ""."""

    key: ConfigKey
    namespace: str
    labels: frozenset[tuple[str, str]]


_Found = tuple[Account, tuple[ConfigKey, ...]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SecretUsers:
    """``accounts`` is what is asked for: the same mapping while nothing in it changed."""

    selectors: tuple[_Selector, ...] = ()
    pods: Mapping[ConfigKey, _Found] = field(default_factory=dict)
    accounts: Users = field(default_factory=dict)


NOBODY: Final = SecretUsers()


def build(
    snapshot: ConfigSnapshot, previous: SecretUsers = NOBODY, changed: Iterable[ConfigKey] | None = None
) -> SecretUsers:
    """The users in a snapshot; ``previous`` where they are the same.

    Args:
        snapshot: all objects.
        previous: the users before.
        changed: the keys that differ from the snapshot of ``previous``; None: all may.
    """
    keys = None if changed is None else frozenset(changed)
    selectors = previous.selectors
    if keys is None or any((key.group, key.kind) in RULES for key in keys):
        selectors = tuple(sorted(_selectors(snapshot), key=lambda one: (one.key, one.namespace, sorted(one.labels))))
    items = snapshot.of(*PODS)
    if keys is None or selectors != previous.selectors:
        pods = dict(_users(items, selectors, items)) if selectors else {}
    else:
        if not selectors or not (touched := [key for key in keys if (key.group, key.kind) == PODS]):
            return previous
        pods = {key: found for key, found in previous.pods.items() if key not in keys}
        pods.update(_users(touched, selectors, items))
        if pods == previous.pods:
            return previous
    accounts = _accounts(pods.values())
    if accounts == previous.accounts:
        accounts = previous.accounts
    return SecretUsers(selectors=selectors, pods=pods, accounts=accounts)


def _accounts(found: Iterable[_Found]) -> Users:
    by: dict[Account, set[ConfigKey]] = {}
    for account, keys in found:
        by.setdefault(account, set()).update(keys)
    return {account: tuple(sorted(keys)) for account, keys in sorted(by.items())}


def _users(
    keys: Iterable[ConfigKey], selectors: tuple[_Selector, ...], items: Mapping[ConfigKey, object]
) -> Iterator[tuple[ConfigKey, _Found]]:
    for key in keys:
        item = items.get(key)
        if not isinstance(item, core.Pod):
            continue
        labels = item.metadata.labels.items()
        holding = tuple(s.key for s in selectors if s.namespace in ("", key.namespace) and s.labels <= labels)
        if holding:
            yield key, ((key.namespace, item.spec.service_account_name or "default"), holding)


def _selectors(snapshot: ConfigSnapshot) -> Iterator[_Selector]:
    found = snapshot.of(NETWORKING, "Gateway").items()
    specs = {key: item.spec for key, item in found if isinstance(item, gateway.Gateway)}
    for key, spec in specs.items():
        if any(one.tls and _named(one.tls) for one in spec.servers):
            home = key.namespace if snapshot.features.scope_gateways else ""
            yield _Selector(key=key, namespace=home, labels=frozenset(spec.selector.items()))
    routers = {frozenset(spec.selector.items()) for spec in specs.values()}
    for key, item in snapshot.of(NETWORKING, "DestinationRule").items():
        if not isinstance(item, destination_rule.DestinationRule) or not any(
            tls is not None and _ours(tls.credential_name) for tls in _tls(item.spec)
        ):
            continue
        if item.spec.workload_selector is None:  # for whatever is a gateway, as one for egress with plain servers
            yield from (_Selector(key=key, namespace="", labels=labels) for labels in routers)
        else:
            labels = frozenset(item.spec.workload_selector.match_labels.items())
            yield _Selector(key=key, namespace=key.namespace, labels=labels)


def _named(tls: gateway.ServerTLSSettings) -> bool:
    return any(map(_ours, (tls.credential_name, *tls.credential_names, tls.ca_cert_credential_name)))


def _ours(name: str) -> bool:
    return bool(name) and not name.startswith(names.EXTERNAL_CREDENTIAL)


def _tls(spec: destination_rule.DestinationRuleSpec) -> Iterator[destination_rule.ClientTLSSettings | None]:
    for policy in (spec.traffic_policy, *(subset.traffic_policy for subset in spec.subsets)):
        if policy is not None:
            yield policy.tls
            yield from (port.tls for port in policy.port_level_settings)
