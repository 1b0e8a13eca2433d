"""What a test file may say. Reading one is reading.py's, what it means asking.py's and judging.py's."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictInt, StrictStr, model_validator
from pydantic.alias_generators import to_camel

from crds import duration

_RULE: Final = re.compile(r"[A-Z]\w+(?:/[^/\s]+){1,2}(?:\s+\S+)?")
_RANGE: Final = (100, 599)


def _seconds(value: object) -> float:
    with contextlib.suppress(ValueError):
        if isinstance(value, str) and (found := duration.parse(value)) >= timedelta():
            return found.total_seconds()
    raise ValueError('must be a duration such as "3s" or "500ms", "0s" for none')


def _several(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _places(value: object) -> object:
    """One destination or several, each by its workload's name alone or in full."""
    return [{"workload": one} if isinstance(one, str) else one for one in _several(value)]


def _origin(value: object) -> object:
    return {"workload": value} if isinstance(value, str) else value


def _rule(value: object) -> object:
    if isinstance(value, str) and not _RULE.fullmatch(value):
        raise ValueError('must be KIND/NAMESPACE/NAME [FIELD], such as "VirtualService/default/reviews spec.http[0]"')
    return value


Status: TypeAlias = Annotated[int, Field(strict=True, ge=_RANGE[0], le=_RANGE[1])]
Seconds: TypeAlias = Annotated[float, BeforeValidator(_seconds)]
Rule: TypeAlias = Annotated[StrictStr, BeforeValidator(_rule)]
Port: TypeAlias = Annotated[int, Field(strict=True, ge=1, le=65535)]


class Part(BaseModel):
    """A part of a test file: immutable, camelCase in the file; unknown fields are errors."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True, extra="forbid")


class Source(Part):
    """Who sends the request: a workload of the mesh, somebody outside who calls a gateway, or one without identity."""

    workload: StrictStr = ""
    namespace: StrictStr = ""
    service_account: StrictStr = ""
    gateway: StrictStr = ""
    address: StrictStr = ""
    outside: StrictBool = False

    @model_validator(mode="after")
    def _one(self) -> Source:
        inside = bool(self.workload or self.service_account)
        if inside + bool(self.gateway) + self.outside != 1 and not (
            self.namespace and not (self.gateway or self.outside)
        ):
            raise ValueError("name one of workload, serviceAccount (or a namespace alone), gateway, and outside: true")
        if self.address and not self.gateway:
            raise ValueError("address says who calls a gateway; there is no gateway")
        return self


class Request(Part):
    """One request. Either ``url``, or its parts."""

    url: StrictStr = ""
    protocol: Literal["HTTP", "HTTPS", "gRPC", "TCP", "TLS"] = "HTTP"
    host: StrictStr = ""
    port: Port | None = None
    path: StrictStr = "/"
    method: StrictStr = ""
    headers: Mapping[StrictStr, StrictStr] = {}
    claims: Mapping[str, Any] | None = None
    sni: StrictStr = ""
    address: StrictStr = ""

    @model_validator(mode="after")
    def _one(self) -> Request:
        parts = self.model_fields_set & {"protocol", "host", "port", "path"}
        if bool(self.url) == bool(self.host) or (self.url and parts):
            raise ValueError("give either url, or host with protocol, port and path")
        if not self.path.startswith("/"):
            raise ValueError("path must begin with /")
        return self


class Place(Part):
    """Where a request may end: a workload's app, or whatever stands behind a Service or one of its subsets."""

    workload: StrictStr = ""
    namespace: StrictStr = ""
    service: StrictStr = ""
    subset: StrictStr = ""
    outside: StrictBool = False
    weight: Annotated[float, Field(ge=0, le=100)] | None = None

    @model_validator(mode="after")
    def _some(self) -> Place:
        if not (self.workload or self.service or self.outside):
            raise ValueError("name a workload, a service (with or without a subset), or outside: true")
        if self.subset and not self.service:
            raise ValueError("a subset is one of a service: name it, too")
        return self

    def said(self) -> str:
        """The place in a few words."""
        home = f" in {self.namespace}" if self.namespace else ""
        parts = [
            f"{self.workload}{home}" if self.workload else "",
            f"service {self.service}" if self.service else "",
            f"subset {self.subset}" if self.subset else "",
            "outside of the mesh" if self.outside else "",
        ]
        return " ".join(filter(None, parts))


class Arriving(Part):
    """The request as the app gets it. A header that is null must not be there."""

    host: StrictStr | None = None
    path: StrictStr | None = None
    headers: Mapping[StrictStr, StrictStr | None] = {}


class Returning(Part):
    """The response as the client gets it. A header that is null must not be there."""

    headers: Mapping[StrictStr, StrictStr | None] = {}


class Expectation(Part):
    """What must come of the request: all that is said."""

    status: Annotated[tuple[Status, ...], BeforeValidator(_several), Field(min_length=1)] | None = None
    reaches: Annotated[tuple[Place, ...], BeforeValidator(_places), Field(min_length=1)] | None = None
    tolerance: Annotated[float, Field(ge=0, le=100)] | None = None
    request: Arriving | None = None
    response: Returning | None = None
    location: StrictStr | None = None
    denied: StrictBool | Rule | None = None
    no_route: StrictBool | None = None
    closed: StrictBool | None = None
    timeout: Seconds | None = None
    retries: Annotated[StrictInt, Field(ge=0)] | None = None
    rule: Rule | None = None

    @model_validator(mode="after")
    def _some(self) -> Expectation:
        if not self.model_fields_set - {"tolerance"}:
            raise ValueError("says nothing: a test that expects nothing cannot fail")
        weights = [place.weight for place in self.reaches or ()]
        if any(one is not None for one in weights) and None in weights:
            raise ValueError("give each destination of reaches a weight, or none")
        if weights and None not in weights and round(sum(filter(None, weights)), 6) != 100:  # noqa: PLR2004 (percent)
            raise ValueError("the weights of reaches must be 100 together")
        return self


class Case(Part):
    """One test."""

    name: Annotated[StrictStr, Field(min_length=1)]
    source: Annotated[Source, BeforeValidator(_origin)] = Field(alias="from")
    request: Request
    expect: Expectation


class TestFile(Part):
    """A file of tests. ``mesh`` are files and folders of YAML, as seen from the file's own folder."""

    __test__ = False

    mesh: tuple[StrictStr, ...] = ()
    tests: Annotated[tuple[Case, ...], Field(min_length=1)]
