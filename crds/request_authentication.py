"""RequestAuthentication: which tokens of end users are good (features row N12).

Source: istio.security request_authentication.proto and jwt.proto, v1 and v1beta1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from crds.duration import Duration
from crds.meta import Bool, Ignored, Model, Object, WorkloadSelector
from crds.target_reference import PolicyTargetReference


class JWTHeader(Model):
    """A header in which a token may be, and what stands before it."""

    name: str = ""
    prefix: str = ""


class ClaimToHeader(Model):
    """A claim (``a.b`` is claim b of the object a) and the header that gets it."""

    header: str = ""
    claim: str = ""


class JWTRule(Model):
    """Tokens of one issuer. ``timeout`` bounds one fetch of its keys; absent: 5 s."""

    issuer: str = ""
    audiences: tuple[str, ...] = ()
    jwks_uri: str = ""
    jwks: str = ""
    from_headers: tuple[JWTHeader, ...] = ()
    from_params: tuple[str, ...] = ()
    from_cookies: tuple[str, ...] = ()
    output_payload_to_header: str = ""
    forward_original_token: Bool = False
    output_claim_to_headers: tuple[ClaimToHeader, ...] = ()
    space_delimited_claims: tuple[str, ...] = ()
    presence: Literal["OPTIONAL", "REQUIRED"] = "OPTIONAL"
    timeout: Duration | None = None

    @model_validator(mode="before")
    @classmethod
    def _older_spelling(cls, value: Any) -> Any:
        """``jwks_uri``, which Istio's schema has beside ``jwksUri``."""
        if isinstance(value, Mapping) and "jwks_uri" in value and "jwksUri" not in value:
            return {("jwksUri" if name == "jwks_uri" else name): said for name, said in value.items()}
        return value


class RequestAuthenticationSpec(Model):
    """Issuers, and the workloads that know them."""

    selector: WorkloadSelector | None = None
    target_ref: PolicyTargetReference | None = None
    target_refs: tuple[PolicyTargetReference, ...] = ()
    jwt_rules: tuple[JWTRule, ...] = Field(default=())


class RequestAuthentication(Object):
    """security.istio.io RequestAuthentication."""

    spec: RequestAuthenticationSpec = RequestAuthenticationSpec()
    status: Ignored = None
