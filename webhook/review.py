"""AdmissionReview in and out, versions v1 and v1beta1 (feature A1). Pure: bytes to values and back.

Source: Kubernetes documentation, "Dynamic Admission Control". What is no review at all is a ``MalformedError``; its
message says what is wrong with the form and repeats nothing of what was sent.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from webhook.decision import part
from webhook.patch import Operation

VERSIONS: Final = ("admission.k8s.io/v1", "admission.k8s.io/v1beta1")
_MOST_WARNINGS: Final = 15
_LONGEST_WARNING: Final = 256
"""An API server cuts longer ones, and drops all beyond 4,096 characters."""


class MalformedError(ValueError):
    """The body is no AdmissionReview."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """What an API server asks. ``item``, of version ``item_version``, is what shall be stored; empty for a deletion."""

    version: str
    uid: str
    operation: str
    group: str
    kind: str
    namespace: str
    name: str
    item_version: str
    item: Mapping[str, object]
    old: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What it is told. ``reason`` and ``code`` (an HTTP status) are read where ``allowed`` is False.

    ``cause`` is what it counts as where something was wrong: one word of few.
    """

    allowed: bool = True
    reason: str = ""
    code: int = 403
    cause: str = ""
    warnings: tuple[str, ...] = ()
    patch: tuple[Operation, ...] = field(default=())


def read(body: bytes) -> Review:
    """The review that a body holds.

    Raises:
        MalformedError: it holds none.
    """
    try:
        found = json.loads(body)
    except RecursionError as error:
        raise MalformedError("the body is nested too deep") from error
    except ValueError as error:  # JSON or UTF-8
        raise MalformedError("the body is no JSON") from error
    if not isinstance(found, dict) or found.get("kind") != "AdmissionReview" or found.get("apiVersion") not in VERSIONS:
        raise MalformedError(f"the body is no AdmissionReview of {' or '.join(VERSIONS)}")
    request = part(found, "request")
    uid, kind = request.get("uid"), part(request, "kind")
    if not isinstance(uid, str) or not uid:
        raise MalformedError("the review has no request.uid")
    return Review(
        version=str(found["apiVersion"]),
        uid=uid,
        operation=str(request.get("operation") or ""),
        group=str(kind.get("group") or ""),
        kind=str(kind.get("kind") or ""),
        namespace=str(request.get("namespace") or ""),
        name=str(request.get("name") or ""),
        item_version=str(kind.get("version") or ""),
        item=part(request, "object"),
        old=part(request, "oldObject"),
    )


def write(review: Review, answer: Answer) -> bytes:
    """The body of the answer to a review."""
    response: dict[str, object] = {"uid": review.uid, "allowed": answer.allowed}
    if not answer.allowed:
        response["status"] = {"status": "Failure", "message": answer.reason, "code": answer.code}
    if answer.warnings:
        response["warnings"] = [_short(each) for each in _few(answer.warnings)]
    if answer.patch:
        text = json.dumps([dict(each) for each in answer.patch], separators=(",", ":"))
        response |= {"patchType": "JSONPatch", "patch": base64.b64encode(text.encode()).decode()}
    return json.dumps({"apiVersion": review.version, "kind": "AdmissionReview", "response": response}).encode()


def _few(warnings: tuple[str, ...]) -> Iterable[str]:
    if len(warnings) <= _MOST_WARNINGS:
        return warnings
    return (*warnings[:_MOST_WARNINGS], f"and {len(warnings) - _MOST_WARNINGS} more")


def _short(text: str) -> str:
    """A warning as a header can carry it: one line, not too long."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_WARNING else f"{line[: _LONGEST_WARNING - 3]}..."
