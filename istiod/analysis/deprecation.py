"""Fields and kinds of Istio's API that are deprecated or gone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from istiod.analysis import catalogue, fields, kinds, message
from istiod.analysis.analyzer import Analyzer
from istiod.analysis.message import Message
from istiod.analysis.resources import Collection

_GONE: Final = ("rbac.istio.io", frozenset(("ClusterRbacConfig", "RbacConfig", "ServiceRole", "ServiceRoleBinding")))


def _run(known: Collection) -> Iterator[Message]:
    for rules in known.of(kinds.VIRTUAL_SERVICE):
        for route in fields.records(rules.spec, "http"):
            if fields.number(route, "fault", "delay", "percent") > 0:
                said = "HTTPRoute.fault.delay.percent is deprecated; use HTTPRoute.fault.delay.percentage"
                yield message.make(catalogue.DEPRECATED, rules, said)
    for sidecar in known.of(kinds.SIDECAR):
        # the mesh honours the field (istiod.mesh.sidecars); Istio's own analyzer says that it does not
        if fields.dig(sidecar.spec, "outboundTrafficPolicy", "egressProxy") is not None:
            yield message.make(catalogue.DEPRECATED, sidecar, "OutboundTrafficPolicy.EgressProxy ignored")
    for definition in known.of(kinds.DEFINITION):
        group, kind = fields.text(definition.spec, "group"), fields.text(definition.spec, "names", "kind")
        if group == _GONE[0] and kind in _GONE[1]:
            yield message.make(catalogue.DEPRECATED, definition, f"Custom resource type {group} {kind} is removed")


ANALYZER: Final = Analyzer(
    name="deprecation.DeprecationAnalyzer",
    description="Checks for deprecated Istio types and fields",
    run=_run,
)
