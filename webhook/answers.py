"""Bodies in, bodies out: what the server does in the event loop, or has done by the worker. Pure.

Beside each body stands what became of it, for the counters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from crds.diagnostic import Diagnostic
from crds.registry import KINDS
from webhook import mutation, review, validation
from webhook.counts import Injection, Judgement
from webhook.review import Answer, Review
from webhook.settings import InjectionConfig

_NO_CONFIG: Final = "the injector has no configuration: its ConfigMap is missing, or was never readable"


def mutate(body: bytes, config: InjectionConfig, annotations: Mapping[str, str]) -> tuple[bytes, Injection]:
    """The answer to a body sent to /inject.

    Raises:
        MalformedError: it is no review.
    """
    asked = review.read(body)
    made = mutation.answer(asked, config, annotations)
    allowed = Injection.SUCCESS if made.patch else Injection.SKIP
    return review.write(asked, made), allowed if made.allowed else Injection.FAILURE


def validate(
    body: bytes, findings: validation.Check, more: tuple[Diagnostic, ...] = ()
) -> tuple[bytes, Judgement | None]:
    """The answer to a body sent to /validate; no judgement of what is of no kind of ours.

    ``more`` are findings about the object beside those of ``findings``.

    Raises:
        MalformedError: it is no review.
    """
    asked = review.read(body)
    made = validation.answer(asked, lambda document: (*findings(document), *more))
    return review.write(asked, made), _judgement(asked, made)


def asked_of(body: bytes) -> Mapping[str, object] | None:
    """The object of a review that Envoy is to be asked about; None where it is not.

    Raises:
        MalformedError: it is no review.
    """
    return validation.asked(review.read(body))


def namespace_of(body: bytes) -> str:
    """The namespace of a review.

    Raises:
        MalformedError: it is no review.
    """
    return review.read(body).namespace


def without_config(body: bytes) -> tuple[bytes, Injection]:
    """The answer to a pod while there are no settings: refused, since it would run outside of the mesh.

    Raises:
        MalformedError: it is no review.
    """
    return review.write(review.read(body), Answer(allowed=False, code=503, reason=_NO_CONFIG)), Injection.FAILURE


def _judgement(asked: Review, made: Answer) -> Judgement | None:
    """In words of the registry only: whoever reaches the port may send any, and each would be a series for ever."""
    info = KINDS.get((asked.group, asked.kind))
    if asked.group not in validation.GROUPS:
        return None
    version = asked.item_version if info is not None and asked.item_version in info.versions else "unknown"
    resource = info.plural if info is not None else "unknown"
    return Judgement(group=asked.group, version=version, resource=resource, reason=made.cause)
