"""Sidecars that select no pod, or the same pods as others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from istiod.analysis import catalogue, fields, kinds, membership, message, sharing
from istiod.analysis.analyzer import Analyzer
from istiod.analysis.message import Message
from istiod.analysis.resources import Collection, Resource

_LABELS: Final = ("workloadSelector", "labels")


def _selector(sidecar: Resource) -> Mapping[str, str]:
    return fields.labels(sidecar.spec, *_LABELS)


def _run(known: Collection) -> Iterator[Message]:
    by_pod, idle = sharing.selected(known, kinds.SIDECAR, _selector)
    yield from sharing.idle(idle, _selector, ("spec", *_LABELS))
    ambient = {pod: some for pod, some in by_pod.items() if membership.pod_in_ambient(pod)}
    yield from sharing.conflicts(
        {pod: some for pod, some in by_pod.items() if pod not in ambient}, catalogue.CONFLICTING_SIDECARS
    )
    for each in dict.fromkeys(one for some in ambient.values() for one in some):
        said = "selected workload is in ambient mode, the policy has no impact"
        yield message.make(catalogue.INEFFECTIVE_POLICY, each, said)
    bare = [each for each in known.of(kinds.SIDECAR) if not _selector(each)]
    for namespace, some in sharing.by_namespace(bare).items():
        if membership.namespace_in_ambient(known.find(kinds.NAMESPACE, "", namespace)):
            for each in some:
                said = "namespace is in ambient mode, the policy has no impact"
                yield message.make(catalogue.INEFFECTIVE_POLICY, each, said)
        else:
            yield from sharing.defaults(namespace, some, catalogue.SIDECARS_WITHOUT_SELECTOR)


ANALYZER: Final = Analyzer(
    name="sidecar.SelectorAnalyzer",
    description="Validates that sidecars that define a workload selector match at least one pod, and that there "
    "aren't multiple sidecar resources that select overlapping pods",
    run=_run,
)
