"""SPIFFE ids of workloads: spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT (features row O3)."""

from __future__ import annotations

import re
from dataclasses import dataclass

_PARTS = 5
_PART = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,255}", re.ASCII)
"""What trust domain and path segments consist of (SPIFFE-ID, section 2): no dots alone, nothing percent-encoded.

The longest trust domain has 255 bytes, and no name of Kubernetes is longer.
"""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a workload is: trust domain, namespace and service account."""

    trust_domain: str
    namespace: str
    service_account: str

    def __str__(self) -> str:
        return f"spiffe://{self.trust_domain}/ns/{self.namespace}/sa/{self.service_account}"


def parse(uri: str) -> Identity:
    """The identity that a SPIFFE URI names.

    Raises:
        ValueError: the URI is not of the form spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT.
    """
    scheme, _, rest = uri.partition("://")
    parts = rest.split("/")
    known = scheme == "spiffe" and len(parts) == _PARTS and (parts[1], parts[3]) == ("ns", "sa")
    if not known or not all(_PART.fullmatch(part) for part in parts):
        raise ValueError(f"{uri[:300]!r} is not spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT")
    return Identity(parts[0], parts[2], parts[4])
