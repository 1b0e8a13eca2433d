"""What an object of Istio's API says of itself at the API server, beside what it means: for those who write status."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from istiod.config.kubernetes import Raw, Resource
from wire.names import LABEL_REVISION

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """An object as it was last seen.

    ``status`` is its whole status, ``resource`` where it is served, ``labelled`` whether it names a revision.
    """

    resource: Resource
    uid: str
    generation: int
    resource_version: str
    status: Json
    labelled: bool = False


def observe(raw: Raw, resource: Resource) -> Observed:
    """What an object says; whatever is malformed counts as absent."""
    metadata, status = raw.get("metadata") or {}, raw.get("status")
    generation = metadata.get("generation")
    return Observed(
        resource=resource,
        uid=str(metadata.get("uid", "")),
        generation=generation if isinstance(generation, int) else 0,
        resource_version=str(metadata.get("resourceVersion", "")),
        status=status if isinstance(status, Mapping) else {},
        labelled=LABEL_REVISION in (metadata.get("labels") or {}),
    )


def records(status: object, name: str) -> list[Json]:
    """The mappings of a list in a status: everybody may write anything there, since no schema holds it."""
    found = status.get(name) if isinstance(status, Mapping) else None
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []
