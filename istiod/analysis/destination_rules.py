"""DestinationRules: servers that nobody verifies, subsets without pods, and hosts that no service has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from istiod.analysis import audience, catalogue, fields, kinds, message
from istiod.analysis.analyzer import Analyzer
from istiod.analysis.message import Message
from istiod.analysis.resources import Collection, Resource, Steps

_VERIFIABLE: Final = ("SIMPLE", "MUTUAL")
_POLICY: Final = ("spec", "trafficPolicy")
_OF_NODE: Final = ("topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone")
_HOSTNAME: Final = "kubernetes.io/hostname"


def _certificates(known: Collection) -> Iterator[Message]:
    for rule in known.of(kinds.DESTINATION_RULE):
        selects = "workloadSelector" in rule.spec
        host = fields.text(rule.spec, "host")
        about = (rule.full_name, rule.namespace)
        policy = fields.record(rule.spec, "trafficPolicy")
        tls = fields.record(policy, "tls")
        if _unverified(tls, selects=selects):
            at: Steps = (*_POLICY, "tls", "caCertificates")
            yield message.make(catalogue.NO_CA, rule, *about, fields.text(tls, "mode"), host, at=at)
        for i, port in enumerate(fields.records(policy, "portLevelSettings")):
            tls = fields.record(port, "tls")
            if _unverified(tls, selects=selects):
                at = (*_POLICY, "portLevelSettings", i, "tls", "caCertificates")
                number = f"number:{fields.number(port, 'port', 'number')}"
                yield message.make(catalogue.NO_CA_OF_PORT, rule, *about, fields.text(tls, "mode"), host, number, at=at)


def _unverified(tls: Any, *, selects: bool) -> bool:
    """Whether a client takes any certificate; a credential of the selected proxies brings its own root."""
    if fields.text(tls, "mode") not in _VERIFIABLE or fields.text(tls, "caCertificates"):
        return False
    return not (selects and fields.text(tls, "credentialName"))


def _subsets(known: Collection) -> Iterator[Message]:
    services = audience.Services(known)
    places = {each.name: each.labels for each in known.of(kinds.NODE)}
    for rule in known.of(kinds.DESTINATION_RULE):
        host = fields.text(rule.spec, "host")
        service = services.find(host, rule.namespace, fields.texts(rule.spec, "exportTo"))
        if service is None:
            if not services.any_of(host, rule.namespace):
                yield message.make(catalogue.UNKNOWN_RULE_HOST, rule, host)
            continue
        for subset in fields.records(rule.spec, "subsets"):
            own = fields.labels(subset, "labels")
            named = any(own.items() <= each.items() for each in service.endpoints)
            if not named and not _selects({**service.selector, **own}, known, places):
                yield message.make(catalogue.SUBSET_WITHOUT_PODS, rule, fields.text(subset, "name"))


def _selects(wanted: Mapping[str, str], known: Collection, places: Mapping[str, Mapping[str, str]]) -> bool:
    """Whether a pod has these labels; those of its node that say where it is count as its own."""
    of_place = {label for label in wanted if label == _HOSTNAME or label in _OF_NODE}
    own = {label: value for label, value in wanted.items() if label not in of_place}
    return any(all(_label_of(pod, label, places) == wanted[label] for label in of_place) for pod in known.pods(own))


def _label_of(pod: Resource, label: str, places: Mapping[str, Mapping[str, str]]) -> str | None:
    node = fields.text(pod.spec, "nodeName")
    if node not in places:
        return pod.labels.get(label)
    return node if label == _HOSTNAME else places[node].get(label, pod.labels.get(label))


CERTIFICATES: Final = Analyzer(
    name="destinationrule.CaCertificateAnalyzer",
    description="Checks if caCertificates is set when TLS mode is SIMPLE/MUTUAL",
    run=_certificates,
)
SUBSETS: Final = Analyzer(
    name="destinationrule.SubsetSelectPodAnalyzer",
    description="Checks if pods are selected by subsets in destination rules.",
    run=_subsets,
)
