"""Gateways: ports that their service does not have, shared certificates, and credentials that are not there."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final

from cryptography import x509

from istiod.analysis import catalogue, fields, kinds, message, selectors
from istiod.analysis.analyzer import Analyzer
from istiod.analysis.message import Message
from istiod.analysis.resources import Collection, Resource, Steps
from wire.certificates import UNREADABLE

_CERTIFICATES: Final = ("tls.crt", "cert")
_KEYS: Final = ("tls.key", "key")
_HIDDEN: Final = base64.b64encode(b"hidden").decode()


def _selector(gateway: Resource) -> dict[str, str]:
    return fields.labels(gateway.spec, "selector")


def _unselected(gateway: Resource) -> Message:
    """No pod is selected."""
    selector = _selector(gateway)
    at = selectors.first(selector, "spec", "selector")
    return message.make(catalogue.NOT_FOUND, gateway, "selector", selectors.written(selector), at=at)


def _ports(known: Collection) -> Iterator[Message]:
    services = known.by_namespace(kinds.SERVICE)
    by_selector: dict[frozenset[tuple[str, str]], set[int]] = {}  # of many Gateways most name the same pods
    for gateway in known.of(kinds.GATEWAY):
        selector = _selector(gateway)
        pods = known.pods(selector)
        if not pods:
            yield _unselected(gateway)
            continue
        labels = frozenset(selector.items())
        if labels not in by_selector:
            by_selector[labels] = _offered(pods, services)
        offered = by_selector[labels]
        for server in fields.records(gateway.spec, "servers"):
            number = fields.number(server, "port", "number")
            if "port" in server and number not in offered:
                at = selectors.first(selector, "spec", "selector")
                written = selectors.written(selector)
                yield message.make(catalogue.PORT_NOT_ON_SERVICE, gateway, number, written, at=at)


def _offered(pods: list[Resource], services: Mapping[str, list[Resource]]) -> set[int]:
    """The TCP ports of the services before these pods: their own numbers, and those that pods have for them.

    A server may name either: a service's port is translated to the pods' (istiod.mesh.gateway_servers).
    """
    found: set[int] = set()
    for namespace, labels in {(pod.namespace, frozenset(pod.labels.items())) for pod in pods}:
        for service in services.get(namespace, ()):
            selector = fields.labels(service.spec, "selector")
            if not selector or not selector.items() <= labels:
                continue
            for port in fields.records(service.spec, "ports"):
                if fields.text(port, "protocol") in ("TCP", ""):
                    found |= {fields.number(port, "port"), fields.number(port, "targetPort")} - {0}
    return found


def _certificates(known: Collection) -> Iterator[Message]:
    showing: dict[tuple[str, str, str], list[Resource]] = {}
    for gateway in known.of(kinds.GATEWAY):
        for credential in _credentials(gateway):
            showing.setdefault(credential, []).append(gateway)
    for several in showing.values():
        for gateway in several:
            selector = _selector(gateway).items()
            for other in several:
                if other is not gateway and selector <= _selector(other).items():
                    names = [gateway.full_name, other.full_name]
                    yield message.make(catalogue.DUPLICATE_CERTIFICATE, gateway, names, at=("metadata", "name"))


def _credentials(gateway: Resource) -> list[tuple[str, str, str]]:
    """What each server proves itself with: the name of a Secret, or the files of certificate and key."""
    found = []
    for server in fields.records(gateway.spec, "servers"):
        tls = fields.record(server, "tls")
        name = fields.text(tls, "credentialName")
        files = fields.text(tls, "serverCertificate"), fields.text(tls, "privateKey")
        if name or all(files):
            found.append((name, "", "") if name else ("", *files))
    return found


def _secrets(known: Collection) -> Iterator[Message]:
    for gateway in known.of(kinds.GATEWAY):
        pods = known.pods(_selector(gateway))
        if not pods:
            yield _unselected(gateway)
            continue
        namespace = pods[0].namespace
        for i, server in enumerate(fields.records(gateway.spec, "servers")):
            name = fields.text(server, "tls", "credentialName")
            if not name:
                continue
            at: Steps = ("spec", "servers", i, "tls", "credentialName")
            of, slash, bare = name.rpartition("/")
            secret = known.find(kinds.SECRET, of if slash else namespace, bare)
            if secret is None:
                yield message.make(catalogue.NOT_FOUND, gateway, "credentialName", name, at=at)
            elif not _proves(secret, known.now):
                yield message.make(catalogue.INVALID_CREDENTIAL, gateway, gateway.name, namespace, at=at)


def _proves(secret: Resource, now: datetime | None) -> bool:
    """Whether a Secret holds a certificate that can be read and is valid now, and something as its key."""
    try:
        found = x509.load_pem_x509_certificates(_value(secret, _CERTIFICATES))
    except UNREADABLE:
        return False
    valid = now is None or all(each.not_valid_before_utc <= now <= each.not_valid_after_utc for each in found[:1])
    return bool(found) and valid and bool(_value(secret, _KEYS))


def without_keys(data: Mapping[str, str]) -> dict[str, str]:
    """The ``data`` of a Secret as far as analyzers read it: certificates, and of all else whether it is there."""
    return {name: value if name in _CERTIFICATES else _HIDDEN if value else "" for name, value in data.items()}


def _value(secret: Resource, names: tuple[str, ...]) -> bytes:
    for name in names:
        plain = fields.text(secret.document, "stringData", name)
        coded = fields.text(secret.document, "data", name)
        if plain:
            return plain.encode()
        try:
            found = base64.b64decode(coded)
        except (binascii.Error, ValueError):
            continue
        if found:
            return found
    return b""


PORTS: Final = Analyzer(
    name="gateway.IngressGatewayPortAnalyzer",
    description="Checks a gateway's ports against the gateway's Kubernetes service ports",
    run=_ports,
)
CERTIFICATES: Final = Analyzer(
    name="gateway.CertificateAnalyzer", description="Checks a gateway certificate", run=_certificates
)
SECRETS: Final = Analyzer(
    name="gateway.SecretAnalyzer",
    description="Checks a gateway's referenced secrets for correctness",
    run=_secrets,
)
