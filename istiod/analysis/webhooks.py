"""Istio's webhooks: an external control plane that they can reach, one injector per pod, a service behind each."""

from __future__ import annotations

import ipaddress
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any, Final

from istiod.analysis import catalogue, fields, kinds, message, selectors
from istiod.analysis.analyzer import Analyzer
from istiod.analysis.membership import INJECT, INJECTION, REVISION
from istiod.analysis.message import Message
from istiod.analysis.resources import Collection, Resource

_VALIDATORS: Final = ("istio-validator", "istiod-default-validator")
_INJECTORS: Final = ("istio-sidecar-injector",)
_OURS: Final = "istio.io"


def _external(known: Collection) -> Iterator[Message]:
    for kind, prefixes in ((kinds.VALIDATING_WEBHOOK, _VALIDATORS), (kinds.MUTATING_WEBHOOK, _INJECTORS)):
        for one in known.of(kind):
            if one.name.startswith(prefixes):
                for hook in fields.records(one.document, "webhooks"):
                    yield from _address(one, hook, known)


def _address(one: Resource, hook: Any, known: Collection) -> Iterator[Message]:
    name, url = fields.text(hook, "name"), fields.text(hook, "clientConfig", "url")
    if not url:
        if not fields.record(hook, "clientConfig", "service"):
            yield message.make(catalogue.EXTERNAL_ADDRESS, one, "", name, "is blank")
        return
    try:
        host = urllib.parse.urlsplit(url).hostname or ""
    except ValueError:
        yield message.make(catalogue.EXTERNAL_ADDRESS, one, url, name, "was provided in an invalid format")
        return
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if not known.resolves(host):
            yield message.make(catalogue.EXTERNAL_ADDRESS, one, url, name, "cannot be resolved via a DNS lookup")
    else:
        yield message.make(catalogue.EXTERNAL_IP, one, url, name)


def _injection(known: Collection) -> Iterator[Message]:
    hooks: dict[str, tuple[Resource, fields.Record]] = {}
    revisions: set[str] = set()
    for one in known.of(kinds.MUTATING_WEBHOOK):
        found = fields.records(one.document, "webhooks")
        mentioned = _revisions(one, found)
        if mentioned or any(fields.text(each, "name").endswith(_OURS) for each in found):
            hooks.update({f"{one.name}/{fields.text(each, 'name')}": (one, each) for each in found})
            revisions |= mentioned
    yield from _overlaps(hooks, sorted(revisions))
    for one, hook in hooks.values():
        service = fields.record(hook, "clientConfig", "service")
        namespace, name = fields.text(service, "namespace"), fields.text(service, "name")
        if service and known.find(kinds.SERVICE, namespace, name) is None:
            said = f"Injector refers to a control plane service that does not exist: {namespace}/{name}."
            yield message.make(catalogue.INVALID_WEBHOOK, one, said)


def _revisions(one: Resource, hooks: list[fields.Record]) -> set[str]:
    found = {one.labels[REVISION]} if REVISION in one.labels else set()
    for hook in hooks:
        for selector in (fields.record(hook, "namespaceSelector"), fields.record(hook, "objectSelector")):
            found |= {value for label, value in fields.labels(selector, "matchLabels").items() if label == REVISION}
            for each in fields.records(selector, "matchExpressions"):
                if fields.text(each, "key") == REVISION:
                    found |= set(fields.texts(each, "values"))
    return found


def _overlaps(hooks: Mapping[str, tuple[Resource, fields.Record]], revisions: list[str]) -> Iterator[Message]:
    """Webhooks that would inject one pod, for each labelling that users give to namespaces and pods."""
    seen: set[tuple[str, tuple[str, ...]]] = set()
    for namespace in _labellings(INJECTION, ("enabled", "disabled"), revisions):
        for pod in _labellings(INJECT, ("true", "false"), revisions):
            matching = [
                name
                for name, (_, hook) in sorted(hooks.items())
                if selectors.matches(fields.dig(hook, "namespaceSelector"), namespace)
                and selectors.matches(fields.dig(hook, "objectSelector"), pod)
            ]
            for name in matching if len(matching) > 1 else ():
                others = tuple(each for each in matching if each != name)
                if (name, others) not in seen:
                    seen.add((name, others))
                    said = (
                        f"Webhook overlaps with others: [{' '.join(others)}]. This may cause injection to occur twice."
                    )
                    yield message.make(catalogue.INVALID_WEBHOOK, hooks[name][0], said)


def _labellings(label: str, values: tuple[str, ...], revisions: list[str]) -> list[dict[str, str]]:
    bare: list[dict[str, str]] = [{}, *({label: value} for value in values)]
    return [*bare, *({**each, REVISION: revision} for revision in revisions for each in bare)]


EXTERNAL: Final = Analyzer(
    name="externalcontrolplane.ExternalControlPlaneAnalyzer",
    description="Checks that the webhooks of a remote cluster reach an external control plane",
    run=_external,
)
INJECTION_HOOKS: Final = Analyzer(
    name="webhook.Analyzer", description="Checks the validity of Istio webhooks", run=_injection
)
