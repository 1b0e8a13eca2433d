"""What every object has: apiVersion, kind and metadata; and the scalar types that all models share.

Models refuse unknown fields; crds.parse turns each refusal into a warning and validates again without the field, so a
clean object costs one pass. Scalars are strict, as an API server is: no "80" for a number, no 1 for a label.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    Strict,
    StrictBool,
    StrictFloat,
    StrictInt,
)
from pydantic.alias_generators import to_camel

from crds.key import ConfigKey

Bool = StrictBool
Int = StrictInt
Float = StrictFloat
UInt32 = Annotated[int, Strict(), Field(ge=0, le=2**32 - 1)]
UInt64 = Annotated[int, Strict(), Field(ge=0, le=2**64 - 1)]
Int32 = Annotated[int, Strict(), Field(ge=-(2**31), le=2**31 - 1)]
Port = Annotated[int, Strict(), Field(ge=0, le=65535)]
"""A port number; 0 where none is given."""
Opaque = Any
"""A subtree that is kept as it is and that nothing in the mesh reads field by field."""
Tree = Mapping[str, Any]
"""An opaque subtree that is a mapping."""


def _int_or_string(value: object) -> int | str:
    if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise ValueError("neither a number nor a string")


IntOrString = Annotated[int | str, PlainValidator(_int_or_string)]


def _forget(_: object) -> None:
    return None


Ignored = Annotated[None, BeforeValidator(_forget)]
"""A field of the API that is accepted and not kept: it never makes two objects differ."""


class Model(BaseModel):
    """A part of the API: immutable, camelCase outside, snake_case inside."""

    model_config = ConfigDict(
        frozen=True,
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        allow_inf_nan=False,
        protected_namespaces=(),
    )


def _with_zone(value: datetime) -> datetime:
    return value if value.tzinfo else value.replace(tzinfo=UTC)


Timestamp = Annotated[datetime, AfterValidator(_with_zone)]
"""A time; without a zone (only a file can say that) it is UTC, so that any two can be compared."""


class OwnerReference(Model):
    """The object that owns this one."""

    api_version: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: Bool | None = None
    block_owner_deletion: Bool | None = None


class ObjectMeta(Model):
    """Names, labels and the like (Kubernetes API reference, ObjectMeta).

    ``uid``, ``generation`` and ``resource_version`` are kept for those who write status, and are no part of equality:
    a change of nothing else says nothing to the mesh.
    """

    name: str = ""
    generate_name: str = ""
    namespace: str = ""
    labels: Mapping[str, str] = Field(default_factory=dict)
    annotations: Mapping[str, str] = Field(default_factory=dict)
    creation_timestamp: Timestamp | None = None
    deletion_timestamp: Timestamp | None = None
    deletion_grace_period_seconds: Int | None = None
    owner_references: tuple[OwnerReference, ...] = ()
    finalizers: tuple[str, ...] = ()
    uid: str = ""
    generation: Int = 0
    resource_version: str = ""
    managed_fields: Ignored = None
    self_link: Ignored = None
    cluster_name: Ignored = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObjectMeta) and self._meaning() == other._meaning()

    def __hash__(self) -> int:
        return hash((self.namespace, self.name))

    def _meaning(self) -> tuple[object, ...]:
        return (
            self.name,
            self.namespace,
            self.labels,
            self.annotations,
            self.creation_timestamp,
            self.deletion_timestamp,
            self.owner_references,
        )


class Object(Model):
    """Any object. Subclasses add spec, status and the like."""

    api_version: str
    kind: str
    metadata: ObjectMeta

    @property
    def group(self) -> str:
        """The API group, "" for the core group."""
        group, slash, _ = self.api_version.partition("/")
        return group if slash else ""

    @property
    def key(self) -> ConfigKey:
        """The object's name in the store."""
        return ConfigKey(self.group, self.kind, self.metadata.namespace, self.metadata.name)


class LabelSelectorRequirement(Model):
    """One expression of a label selector."""

    key: str = ""
    operator: str = ""
    values: tuple[str, ...] = ()


class LabelSelector(Model):
    """Kubernetes label selector: labels and expressions, all of which must hold."""

    match_labels: Mapping[str, str] = Field(default_factory=dict)
    match_expressions: tuple[LabelSelectorRequirement, ...] = ()


class WorkloadSelector(Model):
    """``selector.matchLabels`` of security and telemetry objects (istio.type.v1beta1.WorkloadSelector)."""

    match_labels: Mapping[str, str] = Field(default_factory=dict)

    @classmethod
    def of_unreadable(cls, spec: Mapping[str, Any]) -> WorkloadSelector | None:
        """What an object selects that cannot be read as a whole; None, which is everybody, where that cannot be."""
        said = spec.get("selector")
        labels = said.get("matchLabels") if isinstance(said, Mapping) else None
        if not isinstance(labels, Mapping) or not all(isinstance(v, str) for pair in labels.items() for v in pair):
            return None
        return cls(match_labels=labels)
