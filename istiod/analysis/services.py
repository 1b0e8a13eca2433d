"""Services: port names that do not say which protocol a port speaks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from istiod.analysis import catalogue, fields, kinds, membership, message
from istiod.analysis.analyzer import Analyzer
from istiod.analysis.message import Message
from istiod.analysis.resources import Collection, Steps
from istiod.mesh import protocol
from istiod.mesh.service import Protocol

_ALIAS: Final = "ExternalName"


def _run(known: Collection) -> Iterator[Message]:
    for service in known.of(kinds.SERVICE):
        if service.namespace in membership.SYSTEM_NAMESPACES or membership.is_control_plane(service):
            continue
        alias = fields.text(service.spec, "type") == _ALIAS
        for i, port in enumerate(fields.records(service.spec, "ports")):
            number, name = fields.number(port, "port"), fields.text(port, "name")
            said = protocol.of_service_port(
                number, name, fields.text(port, "protocol"), fields.text(port, "appProtocol")
            )
            if said is not Protocol.UNSUPPORTED and not (alias and name == "tcp"):
                continue
            at: Steps = ("spec", "ports", i, "port")
            if alias:
                yield message.make(catalogue.EXTERNAL_NAME_PORT, service, at=at)
            else:
                target = fields.dig(port, "targetPort") or 0
                yield message.make(catalogue.PORT_NAME, service, name, number, target, at=at)


ANALYZER: Final = Analyzer(
    name="service.PortNameAnalyzer", description="Checks the port names associated with each service", run=_run
)
