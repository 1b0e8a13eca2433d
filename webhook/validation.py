"""The answer to a review of a configuration object: whether it may be stored (features V7, S22). Pure.

What has an error is refused with field and reason, and so is a kind that nothing enforces yet: whoever writes a policy
counts on it. Deletions pass, and so does an update that leaves the spec as it is: an object that was stored while
validation was off (FT20) must stay labelable and removable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from crds import local_rate_limit, parse
from crds.diagnostic import Code, Diagnostic, Severity, under_admission
from webhook.decision import part
from webhook.mutation import reasons, warnings
from webhook.review import Answer, Review

GROUPS: Final = (
    "networking.istio.io",
    "security.istio.io",
    "telemetry.istio.io",
    "extensions.istio.io",
    local_rate_limit.GROUP,
)
_UNPROCESSABLE: Final = 422
_UNSUPPORTED: Final = "unsupported_operation"
_INVALID: Final = "invalid_resource"
_UNDECODABLE: Final = "yaml_decode_error"
"""Istio's words for why an object is refused."""

Check = Callable[[Mapping[str, object]], tuple[Diagnostic, ...]]
"""Findings about one object, given as JSON."""


def check(document: Mapping[str, object]) -> tuple[Diagnostic, ...]:
    """Findings about an object alone: its model, and the checks of its kind."""
    return named(document).diagnostics


def named(document: Mapping[str, object]) -> parse.Parsed:
    """An object, which may have no name yet: the API server will choose the rest of it."""
    if stem := parse.name_stem(document):
        document = {**document, "metadata": {**part(document, "metadata"), "name": f"{stem}0"}}
    return parse.parse(document)


def answer(review: Review, findings: Check = check) -> Answer:
    """Whether an object may be stored, and what its writer should know."""
    if review.group not in GROUPS:
        return Answer()
    if review.operation not in {"CREATE", "UPDATE"}:
        return Answer(cause=_UNSUPPORTED)  # counted as on Istio
    found = under_admission(findings(review.item))
    errors = [each.code for each in found if each.severity is Severity.ERROR]
    if not errors:
        return Answer(warnings=warnings(found))
    if _is_leaving(review):
        return Answer(warnings=(f"{_effect(review)}: {reasons(found)}", *warnings(found)))
    name = review.name or str(part(review.item, "metadata").get("name") or "")
    reason = f"{review.kind} {review.namespace}/{name}: {reasons(found)}"
    cause = _UNDECODABLE if Code.NOT_AN_OBJECT in errors else _INVALID
    return Answer(allowed=False, code=_UNPROCESSABLE, reason=reason, cause=cause, warnings=warnings(found))


def asked(review: Review) -> Mapping[str, object] | None:
    """The object of a review if only Envoy can judge it and it is to be judged: an EnvoyFilter that is not leaving."""
    ours = review.kind == "EnvoyFilter" and review.group in GROUPS and review.operation in {"CREATE", "UPDATE"}
    return review.item if ours and not _is_leaving(review) else None


def _effect(review: Review) -> str:
    """What a stored object does that cannot be read: policies refuse, as istiod reads them (``Parsed.stand_in``)."""
    parsed = named(review.item)
    if parsed.object is not None:
        return "the object is in effect, and would be refused if it were new"
    if parsed.stand_in is None:
        return "the object has no effect, or that of its last readable version"
    return "the object refuses whatever it might have refused, unless istiod knows a readable version from before"


def _is_leaving(review: Review) -> bool:
    """Whether the object is being deleted, or changed outside of its spec only."""
    if review.operation != "UPDATE":
        return False
    deleted = part(review.item, "metadata").get("deletionTimestamp") is not None
    return deleted or review.item.get("spec") == review.old.get("spec")
