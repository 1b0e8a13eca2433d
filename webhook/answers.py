"""Bodies in, bodies out: what the server does in the event loop, or has done by the worker. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from webhook import mutation, review, validation
from webhook.review import Answer
from webhook.settings import InjectionConfig

_NO_CONFIG: Final = "the injector has no configuration: its ConfigMap is missing, or was never readable"


def mutate(body: bytes, config: InjectionConfig, annotations: Mapping[str, str]) -> bytes:
    """The answer to a body sent to /inject.

    Raises:
        MalformedError: it is no review.
    """
    asked = review.read(body)
    return review.write(asked, mutation.answer(asked, config, annotations))


def validate(body: bytes, findings: validation.Check) -> bytes:
    """The answer to a body sent to /validate.

    Raises:
        MalformedError: it is no review.
    """
    asked = review.read(body)
    return review.write(asked, validation.answer(asked, findings))


def namespace_of(body: bytes) -> str:
    """The namespace of a review.

    Raises:
        MalformedError: it is no review.
    """
    return review.read(body).namespace


def without_config(body: bytes) -> bytes:
    """The answer to a pod while there are no settings: refused, since it would run outside of the mesh.

    Raises:
        MalformedError: it is no review.
    """
    return review.write(review.read(body), Answer(allowed=False, code=503, reason=_NO_CONFIG))
