"""Istio's annotations on Namespaces, Services, Pods and Deployments: known, in place, valid, and how mature."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from crds.key import ConfigKey
from istiod.analysis import annotation_words, catalogue, fields, known_annotations, message
from istiod.analysis import kinds as of
from istiod.analysis.analyzer import Analyzer
from istiod.analysis.message import Message
from istiod.analysis.resources import Collection, Resource

_KINDS: Final = (of.NAMESPACE, of.SERVICE, of.POD, of.DEPLOYMENT)
_INJECT: Final = "sidecar.istio.io/inject"
_INIT: Final = "istio-init"


def _ours(known: Collection) -> Iterator[tuple[Resource, str, str]]:
    for kind in _KINDS:
        for resource in known.of(kind):
            for name, value in sorted(resource.annotations.items()):
                if known_annotations.is_ours(name):
                    yield resource, name, value


def _check(known: Collection) -> Iterator[Message]:
    for resource, name, value in _ours(known):
        found = known_annotations.KNOWN.get(name)
        if found is None:
            yield message.make(catalogue.UNKNOWN_ANNOTATION, resource, name)
            continue
        if found.deprecated and not (name == _INJECT and _INJECT in resource.labels):
            yield message.make(catalogue.DEPRECATED_ANNOTATION, resource, name, found.instead)
        if known_annotations.ANY in found.kinds:
            continue
        if resource.kind.name not in found.kinds:
            yield message.make(catalogue.MISPLACED_ANNOTATION, resource, name, ", ".join(found.kinds))
        elif problem := annotation_words.problem(name, value, _key(resource)):
            yield message.make(catalogue.INVALID_ANNOTATION, resource, name, problem)


def _key(resource: Resource) -> ConfigKey:
    return ConfigKey("", resource.kind.name, resource.namespace, resource.name)


def _alpha(known: Collection) -> Iterator[Message]:
    for resource, name, _ in _ours(known):
        found = known_annotations.KNOWN.get(name)
        if found is None or not found.alpha or name in known_annotations.MADE_BY_ISTIO:
            continue
        if name not in known_annotations.SET_BY_CNI or not _is_of_plugin(resource):
            yield message.make(catalogue.ALPHA_ANNOTATION, resource, name)


def _is_of_plugin(resource: Resource) -> bool:
    names = (fields.text(each, "name") for each in fields.records(resource.spec, "initContainers"))
    return resource.kind == of.POD and _INIT not in names


CHECK: Final = Analyzer(
    name="annotations.K8sAnalyzer",
    description="Checks for misplaced and invalid Istio annotations in Kubernetes resources",
    run=_check,
)
ALPHA: Final = Analyzer(
    name="annotations.AlphaAnalyzer",
    description="Checks for alpha Istio annotations in Kubernetes resources",
    run=_alpha,
    usual=False,
)
