"""What every object has: apiVersion, kind and metadata."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from crds.key import ConfigKey


class Model(BaseModel):
    """A part of the API: immutable, camelCase outside, snake_case inside."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True, extra="allow")


class OwnerReference(Model):
    """The object that owns this one."""

    api_version: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool | None = None
    block_owner_deletion: bool | None = None


class ObjectMeta(Model):
    """Names, labels and the like (Kubernetes API reference, ObjectMeta)."""

    name: str = ""
    generate_name: str = ""
    namespace: str = ""
    labels: Mapping[str, str] = Field(default_factory=dict)
    annotations: Mapping[str, str] = Field(default_factory=dict)
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    owner_references: tuple[OwnerReference, ...] = ()
    uid: str = ""
    generation: int = 0
    resource_version: str = ""


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
