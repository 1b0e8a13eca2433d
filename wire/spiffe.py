"""SPIFFE ids of workloads: spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT (features row O3)."""

from __future__ import annotations

from dataclasses import dataclass

_PARTS = 5


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
    if scheme != "spiffe" or len(parts) != _PARTS or parts[1] != "ns" or parts[3] != "sa" or not all(parts):
        raise ValueError(f"{uri!r} is not spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT")
    return Identity(parts[0], parts[2], parts[4])
