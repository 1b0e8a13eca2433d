"""``x describe``: what a pod asks of its clients, and how long its certificates last. Lines without their ends."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from cryptography import x509

from crds.peer_authentication import PeerAuthentication
from crds.request_authentication import RequestAuthentication
from istioctl.dump import Json
from istioctl.views import secrets
from istioctl.views.traffic_rules import ONE, TWO, Labels
from istiod.config.store import ConfigSnapshot
from istiod.mesh import peer_authentication
from wire.certificates import UNREADABLE

_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"


def peer(found: Sequence[PeerAuthentication], root: str, namespace: str, labels: Labels) -> Iterator[str]:
    """The mTLS modes of a workload, and the objects that decide them, as istiod decides.

    Args:
        found: those of the root namespace and of the pod's.
        root: the root namespace.
        namespace: the pod's.
        labels: the pod's.
    """
    snapshot = ConfigSnapshot(kinds={("security.istio.io", "PeerAuthentication"): {each.key: each for each in found}})
    index, _ = peer_authentication.build(snapshot, root)
    verdict = index.of_workload(namespace, frozenset(labels.items()))
    yield "Effective PeerAuthentication:"
    yield f"{ONE}Workload mTLS mode: {verdict.mode.value}"
    if verdict.ports:
        yield f"{ONE}Port Level mTLS mode:"
        yield from (f"{TWO}{port}: {mode.value}" for port, mode in verdict.ports)
    applied = [each for each in found if _selects(each, labels)]
    if applied:
        yield "Applied PeerAuthentication:"
        yield f"{ONE}{', '.join(map(_name, applied))}"
    if verdict.origin:
        yield "Deciding PeerAuthentication:"
        yield f"{ONE}{verdict.origin.key.name}.{verdict.origin.key.namespace}"


def request(found: Iterable[RequestAuthentication], labels: Labels) -> Iterator[str]:
    """Whose tokens the pod knows; nothing where nobody said."""
    applied = [each for each in found if _selects(each, labels) and each.spec.jwt_rules]
    if applied:
        yield "Applied RequestAuthentication:"
    for each in applied:
        yield f"{ONE}{_name(each)}: issuers {', '.join(rule.issuer for rule in each.spec.jwt_rules)}"


def certificates(held: Iterable[tuple[Json, str]], now: dt.datetime) -> Iterator[str]:
    """Of each certificate that the proxy has over SDS, whose it is and how long it is valid."""
    yield "Certificates:"
    found = [f"{ONE}{name} ({kind}): {_lasting(each, now)}" for name, kind, each in secrets.held(held)]
    yield from found or [f"{ONE}none: the proxy has no certificate over SDS"]


def _lasting(certificate: x509.Certificate, now: dt.datetime) -> str:
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    who = ", ".join(_identities(certificate))
    what = f"{who}, " if who else ""
    if now < begins:
        return f"{what}NOT VALID YET: begins {begins.strftime(_TIME)}"
    if now > ends:
        return f"{what}EXPIRED {ends.strftime(_TIME)}, {_span(now - ends)} ago"
    return f"{what}valid until {ends.strftime(_TIME)}, for {_span(ends - now)}"


def _span(time: dt.timedelta) -> str:
    """A time as people say it: the two largest units."""
    minutes = int(time.total_seconds()) // 60
    days, hours = minutes // 1440, minutes // 60 % 24
    return f"{days}d{hours}h" if days else f"{hours}h{minutes % 60}m"


def _identities(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (*UNREADABLE, x509.ExtensionNotFound):
        return []
    return names.get_values_for_type(x509.UniformResourceIdentifier)


def _selects(each: PeerAuthentication | RequestAuthentication, labels: Labels) -> bool:
    selector = each.spec.selector
    return selector is None or selector.match_labels.items() <= labels.items()


def _name(each: PeerAuthentication | RequestAuthentication) -> str:
    return f"{each.metadata.name}.{each.metadata.namespace}"
