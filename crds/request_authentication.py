"""RequestAuthentication: which tokens of end users are good (features row N12).

Source: istio.security request_authentication.proto and jwt.proto, v1 and v1beta1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from crds.duration import Duration
from crds.key import ConfigKey
from crds.meta import Bool, Ignored, Model, Object, ObjectMeta, WorkloadSelector
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


def closed(document: Mapping[str, Any], key: ConfigKey) -> RequestAuthentication:
    """What stands for an object that cannot be read and of which no earlier version is known: it fails closed.

    Nobody knows whose tokens are good, so none is that no other object vouches for: an app must not be handed one that
    it takes for checked. It selects what the object selects, its whole namespace where that cannot be read either; a
    token has to be there where any rule said so.

    Args:
        document: the object as it was given.
        key: its name.
    """
    raw = document.get("spec")
    spec: Mapping[str, Any] = raw if isinstance(raw, Mapping) else {}
    said = spec.get("jwtRules")
    rules = said if isinstance(said, list) else []
    required = any(isinstance(rule, Mapping) and rule.get("presence") == "REQUIRED" for rule in rules)
    return RequestAuthentication(
        api_version=str(document.get("apiVersion", "")),
        kind=key.kind,
        metadata=ObjectMeta(name=key.name, namespace=key.namespace),
        spec=RequestAuthenticationSpec(
            selector=WorkloadSelector.of_unreadable(spec),
            target_refs=(PolicyTargetReference(),) if spec.get("targetRef") or spec.get("targetRefs") else (),
            jwt_rules=(JWTRule(presence="REQUIRED" if required else "OPTIONAL"),),
        ),
    )
