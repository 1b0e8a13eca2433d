"""What a proxy does about tokens of end users, ready to compile (features rows N12, N13).

Which objects hold for a workload is request_authentication's, what Envoy is told is istiod.envoy's.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

PAYLOAD: Final = "payload"
"""Where the filter leaves the claims of a good token, in its own dynamic metadata; conditions on claims look there."""
SPACE_DELIMITED: Final = ("permission", "scope")
"""Claims that hold several values with spaces between in every token (as on Istio)."""
TIMEOUT: Final = timedelta(seconds=5)
"""For one fetch, where a rule says nothing."""
NOBODYS: Final = (
    "{\n"
    '  "keys": [\n'
    "    {\n"
    '      "kty": "RSA",\n'
    '      "e": "AQAB",\n'
    '      "n": "'
    "0xObjM0UvS_oaazjpEYlAbwctEJ4L8pH3OuTb7qth7gUwqet-EzQB4dgFdvSdMgrLnSncQGRjpEYz3F3viIbH-3EN3TxSlPN"
    "viHxeOdyiBVfumN8dMxbLvVJUpfNOnvmMxJcl-8NNjAwcOjk4otSALaYgYYyOPyvKtgVdrQr-FoubWX4yrjxW-MJ2-7OBeep"
    "UUNOsVwGV23YX03sVkkyvY3otRflkBcY3_HKpBxJl9wk2GyOShN4_PNUF9-vwfnvOXMbCDX-w4PTef4geeb_GiT40YCKHTKM"
    "SPVanGRn5GExIWmki-mmqh94-mPTJyBR74ShspL3BxPZitDL574T1w"
    '"\n'
    "    }\n"
    "  ]\n"
    "}"
)
"""A key set that no token is signed with: Istio's, whose private part was thrown away.

It stands where keys are missing, so that every token is refused (hostile-input row SEC53)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """Keys that Envoy fetches itself through one of its clusters."""

    uri: str
    cluster: str
    timeout: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """Tokens of one issuer. ``keys`` is a key set as text, unless Envoy has a ``remote`` one.

    ``headers`` are names with what stands before the token, ``claim_headers`` pairs of header and claim.
    ``required``: a request without any token is refused.
    """

    issuer: str
    keys: str = ""
    remote: Remote | None = None
    audiences: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    params: tuple[str, ...] = ()
    cookies: tuple[str, ...] = ()
    payload_header: str = ""
    claim_headers: tuple[tuple[str, str], ...] = ()
    forward: bool = False
    space_delimited: tuple[str, ...] = SPACE_DELIMITED
    required: bool = False


Providers = tuple[Provider, ...]
"""All that hold for a workload, in the order of their issuers; () looks at no token."""
