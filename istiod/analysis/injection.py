"""Sidecar injection: namespaces without it, pods that missed it, and ``image: auto`` that nobody replaces."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from istiod.analysis import catalogue, fields, kinds, membership, message, selectors
from istiod.analysis.analyzer import Analyzer
from istiod.analysis.membership import DATA_PLANE, ENABLED, INJECT, INJECTION, REVISION
from istiod.analysis.message import Message
from istiod.analysis.resources import ROOT, Collection, Resource

INJECTOR: Final = "istio-sidecar-injector"
_NAME: Final = ("metadata", "name")
_AUTO: Final = "auto"
_OURS: Final = "istio.io"
_DEFAULT: Final = "default"


def injector(revision: str) -> str:
    """The ConfigMap that says how pods of a revision are injected."""
    return INJECTOR if revision in ("", _DEFAULT) else f"{INJECTOR}-{revision}"


def values(config_map: Resource) -> Any:
    """The chart's values in the injector's ConfigMap; nothing where they cannot be read."""
    try:
        return json.loads(fields.text(config_map.document, "data", "values"))
    except (ValueError, RecursionError):
        return {}


def _run(known: Collection) -> Iterator[Message]:
    injected: set[str] = set()
    for namespace in known.of(kinds.NAMESPACE):
        if namespace.name == ROOT or namespace.name in membership.SYSTEM_NAMESPACES:
            continue
        yield from _labels(namespace)
        yield from _enabled(namespace, known, injected)
    for pod in known.of(kinds.POD):
        if pod.namespace not in injected or fields.dig(pod.spec, "hostNetwork") is True:
            continue
        said = pod.labels.get(INJECT, pod.annotations.get(INJECT, ""))
        if said.lower() != "false" and not membership.proxy_image(pod.spec):
            yield message.make(catalogue.POD_MISSING_PROXY, pod, pod.full_name)


def _labels(namespace: Resource) -> Iterator[Message]:
    """More than one label that says how the namespace's pods join the mesh."""
    found, labels = [], namespace.labels
    if INJECTION in labels:
        found.append(f"{INJECTION}={labels[INJECTION]}")
    if labels.get(INJECTION, ENABLED) == ENABLED:
        found += [f"{each}={labels[each]}" for each in (REVISION, DATA_PLANE) if each in labels]
    if len(found) > 1:
        yield message.make(catalogue.MANY_INJECTION_LABELS, namespace, found)


def _enabled(namespace: Resource, known: Collection, injected: set[str]) -> Iterator[Message]:
    labels = namespace.labels
    if labels.get(DATA_PLANE) == membership.AMBIENT:
        return
    if not labels.get(INJECTION) and REVISION not in labels:
        if _by_default(known):
            yield message.make(catalogue.INJECTED_BY_DEFAULT, namespace)
        else:
            name = namespace.name
            yield message.make(catalogue.NAMESPACE_NOT_INJECTED, namespace, name, name, at=_NAME)
    elif REVISION in labels:
        if not labels.get(INJECTION):
            injected.add(namespace.name)
    elif labels[INJECTION] == ENABLED:
        injected.add(namespace.name)


def _by_default(known: Collection) -> bool:
    """Whether namespaces without a label are injected."""
    found = (each for each in known.of(kinds.CONFIG_MAP) if each.name == INJECTOR)
    return any(
        fields.dig(values(each), "sidecarInjectorWebhook", "enableNamespacesByDefault") is True for each in found
    )


def _auto(known: Collection) -> Iterator[Message]:
    hooks = [
        each
        for one in known.of(kinds.MUTATING_WEBHOOK)
        for each in fields.records(one.document, "webhooks")
        if fields.text(each, "name").endswith(_OURS)
    ]
    for pod in known.of(kinds.POD):
        if _has_auto(pod.spec):
            yield message.make(catalogue.IMAGE_AUTO_OF_POD, pod, "Pod", pod.name)
    for deployment in known.of(kinds.DEPLOYMENT):
        template = fields.record(deployment.spec, "template")
        if not _has_auto(fields.record(template, "spec")):
            continue
        namespace = known.find(kinds.NAMESPACE, "", deployment.namespace or _DEFAULT)
        of_namespace = namespace.labels if namespace is not None else {}
        labels = fields.labels(template, "metadata", "labels")
        matched = any(
            selectors.matches(fields.dig(hook, "namespaceSelector"), of_namespace)
            and selectors.matches(fields.dig(hook, "objectSelector"), labels)
            for hook in hooks
        )
        if not matched:
            yield message.make(catalogue.IMAGE_AUTO_OF_TEMPLATE, deployment, "Deployment", deployment.name)


def _has_auto(spec: Any) -> bool:
    return any(
        fields.text(one, "name") == membership.PROXY and fields.text(one, "image") == _AUTO
        for one in fields.records(spec, "containers")
    )


ANALYZER: Final = Analyzer(
    name="injection.Analyzer", description="Checks conditions related to Istio sidecar injection", run=_run
)
AUTO: Final = Analyzer(
    name="injection.ImageAutoAnalyzer",
    description="Makes sure that Pods and Deployments with `image: auto` are going to be injected",
    run=_auto,
)
