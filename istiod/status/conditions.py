"""Findings -> what ``.status`` of an object of Istio's API should say (issue 5, item 6). Pure.

Four conditions: Accepted (its last version can be used), InUse (a version of it has an effect), Conflicts (another
object claims the same), RejectedByEnvoy (a proxy refuses what was made of it). Beside them ``validationMessages`` as
Istio has them: code, name and level of each finding. What others wrote into the status stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from crds.diagnostic import Code, Diagnostic, Severity
from istiod.status.observed import Json, Observed, records

ACCEPTED: Final = "Accepted"
IN_USE: Final = "InUse"
CONFLICTS: Final = "Conflicts"
REJECTED: Final = "RejectedByEnvoy"
TYPES: Final = (ACCEPTED, IN_USE, CONFLICTS, REJECTED)
Addresses = Sequence[tuple[str, str]]
"""Hosts and their addresses, in a fixed order."""
NOT_ENFORCED: Final = "NotEnforced"
"""Reason of a kind that has no effect here yet."""
_CONFLICTS: Final = frozenset(
    (Code.DUPLICATE_HOST, Code.DUPLICATE_SUBSET, Code.PORT_CONFLICT, Code.SHADOWED_ROUTE, Code.DUPLICATE_OBJECT)
)
_OURS: Final = frozenset(code.value for code in Code)
_MOST_WORDS: Final = 1000
_MOST_MESSAGES: Final = 20
_DIGITS: Final = 19
"""Of a number of 64 bits; Python refuses to read one of thousands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One condition, without times."""

    type: str
    status: bool
    reason: str
    message: str = ""


def conditions(found: Sequence[Diagnostic], *, serving: bool) -> tuple[Condition, ...]:
    """The four conditions of an object.

    Args:
        found: all findings about it.
        serving: whether a version of it is in the mesh.
    """
    rejected = [d for d in found if d.code is Code.REJECTED_BY_ENVOY]
    conflicting = [d for d in found if d.code in _CONFLICTS]
    idle = [d for d in found if _is_idle(d)]
    aside = {Code.REJECTED_BY_ENVOY, *_CONFLICTS}
    wrong = [d for d in found if d.severity is Severity.ERROR and d.code not in aside and not _is_idle(d)]
    accepted = _condition(ACCEPTED, wrong, bad=False)
    if idle:
        unsupported = any(d.code is Code.NOT_SUPPORTED for d in idle)
        in_use = Condition(
            type=IN_USE, status=False, reason=NOT_ENFORCED if unsupported else _reason(idle[0]), message=_words(idle)
        )
    else:
        reason = IN_USE if serving else "NotAccepted" if wrong else "NotRead"
        in_use = Condition(type=IN_USE, status=serving, reason=reason)
    return accepted, in_use, _condition(CONFLICTS, conflicting, bad=True), _condition(REJECTED, rejected, bad=True)


def _is_idle(found: Diagnostic) -> bool:
    """Whether it says that the whole object has no effect."""
    return found.code is Code.INEFFECTIVE or (found.code is Code.NOT_SUPPORTED and not found.field)


def messages(found: Sequence[Diagnostic], analysed: Sequence[Json] = ()) -> list[Json]:
    """``validationMessages``: each finding once (istio.analysis.v1alpha1 AnalysisMessageBase).

    What the analyzers say has that form already; of a code that is ours, our own word counts.
    """
    said = dict.fromkeys((d.code, d.severity) for d in found)
    own = [{"type": {"code": code.value, "name": _camel(code.name)}, "level": severity.name} for code, severity in said]
    return [*own, *(one for one in analysed if _code(one) not in _OURS)][:_MOST_MESSAGES]


def _before(status: Json) -> Sequence[Json]:
    """What the analyzers said when the status was written."""
    return [one for one in records(status, "validationMessages") if isinstance(_code(one), str)]


def _code(message: Json) -> object:
    said = message.get("type")
    return said.get("code") if isinstance(said, Mapping) else None


def wanted(
    observed: Observed,
    found: Sequence[Diagnostic],
    now: str,
    *,
    serving: bool,
    addresses: Addresses = (),
    analysed: Sequence[Json] | None = (),
) -> Json | None:
    """What to write into the status, as a merge patch; None where it says all of it already.

    Args:
        observed: the object as it is.
        found: all findings about it.
        now: the present time as the API writes it, for conditions that change.
        serving: whether a version of it is in the mesh.
        addresses: those that the mesh gave to its hosts; () leaves what is there.
        analysed: ``validationMessages`` of the analyzers; None, while they have not run, leaves theirs.
    """
    status = observed.status
    there = records(status, "conditions")
    before = {str(c.get("type")): c for c in there}
    ours = [_rendered(c, before.get(c.type), observed.generation, now) for c in conditions(found, serving=serving)]
    after = {
        "conditions": [*(c for c in there if c.get("type") not in TYPES), *ours],
        "validationMessages": messages(found, _before(status) if analysed is None else analysed),
        "observedGeneration": observed.generation,
    }
    if addresses:
        after["addresses"] = [{"host": host, "value": value} for host, value in addresses]
    same = all(status.get(name, []) == value or _number(status.get(name)) == value for name, value in after.items())
    return None if same else after


def worsened(observed: Observed, status: Json) -> Iterable[Json]:
    """The conditions in a status to be written that are bad, with words, and were not before: what Events tell."""
    before = {str(c.get("type")): str(c.get("status")) for c in records(observed.status, "conditions")}
    for condition in status["conditions"]:
        good = "True" if condition.get("type") in (ACCEPTED, IN_USE) else "False"
        known = before.get(str(condition.get("type")), good)
        if condition.get("type") in TYPES and condition["status"] != good and known == good and condition["message"]:
            yield condition


def _condition(type_: str, found: Sequence[Diagnostic], *, bad: bool) -> Condition:
    """A condition that is ``bad`` where something was found."""
    if not found:
        return Condition(type=type_, status=not bad, reason=f"No{type_}" if bad else type_)
    return Condition(type=type_, status=bad, reason=_reason(found[0]), message=_words(found))


def _rendered(condition: Condition, before: Json | None, generation: int, now: str) -> dict[str, Any]:
    status = "True" if condition.status else "False"
    since = before.get("lastTransitionTime") if before is not None and before.get("status") == status else None
    return {
        "type": condition.type,
        "status": status,
        "reason": condition.reason,
        "message": condition.message,
        "observedGeneration": generation,
        "lastTransitionTime": since or now,
    }


def _words(found: Sequence[Diagnostic]) -> str:
    said = "; ".join(f"{d.field}: {d.words}" if d.field else d.words for d in found)
    return said if len(said) <= _MOST_WORDS else f"{said[:_MOST_WORDS]}..."


def _reason(finding: Diagnostic) -> str:
    return _camel(finding.code.name)


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def _number(value: object) -> object:
    """Istio's CRDs let a generation be a number or its text."""
    return int(value) if isinstance(value, str) and value.isdecimal() and len(value) <= _DIGITS else value
