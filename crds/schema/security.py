"""AuthorizationPolicy and RequestAuthentication, which have no model yet (features rows N2 onwards).

Source: istio.security authorization_policy.proto and request_authentication.proto.
"""

from __future__ import annotations

from typing import Final

from crds.schema import common
from crds.schema.shape import Rule, Schema, array, boolean, choice, constrain, string, strings, thing

_MOST_RULES: Final = 512
_HEADER: Final = "^[-_A-Za-z0-9]+$"
_PATTERNS: Final = "each exact, a prefix (abc*), a suffix (*abc) or * for any"


def _pair(name: str, text: str, **more: object) -> dict[str, Schema]:
    """A field and its opposite: ``name`` and ``notName``."""
    opposite = f"not{name[0].upper()}{name[1:]}"
    return {name: strings(f"{text}.", **more), opposite: strings(f"The opposite of {name}.", **more)}


def _source() -> Schema:
    alone: Rule = (
        (
            "(has(self.serviceAccounts) || has(self.notServiceAccounts)) ? (!has(self.principals) && "
            "!has(self.notPrincipals) && !has(self.namespaces) && !has(self.notNamespaces)) : true"
        ),
        "serviceAccounts cannot stand beside principals or namespaces",
    )
    account = string(maxLength=320)
    return thing(
        "Who calls; all fields that are there must hold.",
        {
            **_pair("principals", f"Identities of the peer's certificate, {_PATTERNS}"),
            **_pair("requestPrincipals", f"Identities of the request's token (issuer/subject), {_PATTERNS}"),
            **_pair("namespaces", f"Namespaces of the peer's identity, {_PATTERNS}"),
            **_pair("trustDomains", f"Trust domains of the peer's identity, {_PATTERNS}"),
            **_pair("ipBlocks", "Addresses of the connection's other end, as IP or CIDR"),
            **_pair("remoteIpBlocks", "Addresses of the client behind trusted proxies, as IP or CIDR"),
            "serviceAccounts": array(account, "Service accounts, NAMESPACE/NAME or NAME.", maxItems=16),
            "notServiceAccounts": array(account, "The opposite of serviceAccounts.", maxItems=16),
        },
        rules=(alone,),
    )


def _rule() -> Schema:
    operation = thing(
        "What is called; all fields that are there must hold.",
        {
            **_pair("hosts", f"Hosts of the request, without regard to case, {_PATTERNS}"),
            **_pair("ports", "Ports that are called"),
            **_pair("methods", f"HTTP methods, {_PATTERNS}"),
            **_pair("paths", f"Paths, {_PATTERNS}, or a template such as /a/{{*}}/b"),
        },
    )
    condition = thing(
        "One more condition.",
        {
            "key": string("Which attribute, such as request.headers[x-version] or source.ip."),
            "values": strings("Values of which one must match."),
            "notValues": strings("Values of which none may match."),
        },
        required=("key",),
    )
    come = thing("One caller.", {"source": _source()})
    go = thing("One operation.", {"operation": operation})
    return thing(
        "Matches where a caller, an operation and all conditions match; an absent part matches everything.",
        {
            "from": array(come, "Callers of which one must match.", maxItems=_MOST_RULES),
            "to": array(go, "Operations of which one must match."),
            "when": array(condition, "Conditions that must all hold."),
        },
    )


def authorization_policy() -> Schema:
    """``spec`` of AuthorizationPolicy."""
    return thing(
        "Which requests workloads take. Without any policy all are taken; a policy without rules matches none.",
        {
            "action": choice(
                ("ALLOW", "DENY", "AUDIT", "CUSTOM"),
                "What happens to requests that match: DENY is asked first, CUSTOM asks the provider, and where any "
                "ALLOW policy is, what none of them matches is refused.",
            ),
            "provider": thing(
                "Whom CUSTOM asks.", {"name": string("Its name in extensionProviders of the mesh configuration.")}
            ),
            "rules": array(_rule(), "Rules of which one must match.", maxItems=_MOST_RULES),
            "selector": common.selector(),
            "targetRef": common.target(),
            "targetRefs": common.targets(),
        },
        one_of=(("provider",),),
        rules=(common.ONE_TARGET,),
    )


def _jwks(text: str) -> Schema:
    scheme: Rule = ('url(self).getScheme() in ["http", "https"]', "must be a URL of scheme http or https")
    return constrain(string(text, minLength=1, maxLength=2048), rules=(scheme,))


def _jwt_rule() -> Schema:
    word = string(minLength=1)
    header = thing(
        "A header, and what stands before the token in it.",
        {"name": string("The header's name.", minLength=1), "prefix": string('Such as "Bearer ", with the space.')},
        required=("name",),
    )
    claim = thing(
        "One claim and its header.",
        {
            "header": string("The header's name.", minLength=1, pattern=_HEADER),
            "claim": string("The claim's name.", minLength=1),
        },
        required=("header", "claim"),
    )
    one_source: Rule = (
        "(has(self.jwksUri) ? 1 : 0) + (has(self.jwks_uri) ? 1 : 0) + (has(self.jwks) ? 1 : 0) <= 1",
        "only one of jwks and jwksUri can be set",
    )
    return thing(
        "Tokens of one issuer.",
        {
            "issuer": string("Who issues the token: its claim iss.", minLength=1),
            "audiences": array(word, "Audiences of which the token must have one."),
            "jwksUri": _jwks("Where the issuer's public keys are."),
            "jwks_uri": _jwks("The older spelling of jwksUri."),
            "jwks": string("The issuer's public keys themselves, as JSON."),
            "fromHeaders": array(header, "Headers in which a token may be; absent: Authorization."),
            "fromParams": array(word, "Query parameters in which a token may be."),
            "fromCookies": array(word, "Cookies in which a token may be."),
            "forwardOriginalToken": boolean("Leave the token in the request that goes on."),
            "outputPayloadToHeader": string("A header that gets the token's payload, in base64."),
            "outputClaimToHeaders": array(claim, "Claims that are copied into headers."),
            "spaceDelimitedClaims": array(word, "Claims that hold several values with spaces between.", maxItems=64),
            "presence": choice(("OPTIONAL", "REQUIRED"), "Whether a request without a token goes on."),
            "timeout": common.duration("How long a fetch of the keys may take."),
        },
        rules=(one_source,),
    )


def request_authentication() -> Schema:
    """``spec`` of RequestAuthentication."""
    return thing(
        "Which tokens of end users are good. A bad one is refused; an AuthorizationPolicy demands one.",
        {
            "jwtRules": array(_jwt_rule(), "Issuers.", maxItems=4096),
            "selector": common.selector(),
            "targetRef": common.target(),
            "targetRefs": common.targets(),
        },
        rules=(common.ONE_TARGET,),
    )
