"""From a document, as YAML or an API server gives it, to an object and findings.

One rule: any error means no object, so that the source keeps the last good version. Unknown fields are warnings and
otherwise as if they were not there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from crds import (
    authorization_policy,
    checks,
    diagnostic,
    in_parts,
    path,
    registry,
    request_authentication,
    spelling,
    text,
)
from crds.diagnostic import Code, Diagnostic, Severity
from crds.key import ConfigKey
from crds.meta import Model, Object

DEFAULT_NAMESPACE: Final = "default"
_MOST_FINDINGS: Final = 50  # of one object: a large file of typing errors must not become as many findings
_LONGEST_VALUE: Final = 60
_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._~-]{0,251}[A-Za-z0-9])?\Z")  # wider than RFC 1123, as files are
_UNKNOWN: Final = "extra_forbidden"
_SHAPES: Final = {
    "tuple_type": "a list",
    "dict_type": "an object",
    "mapping_type": "an object",
    "model_type": "an object",
}
_DICT_KEY: Final = "[key]"  # pydantic's last step where the key itself is wrong

Document = Mapping[str, Any]
_CLOSED: Final[Mapping[type[Object], Callable[[Document, ConfigKey], Object | None]]] = {
    authorization_policy.AuthorizationPolicy: authorization_policy.closed,
    request_authentication.RequestAuthentication: request_authentication.closed,
}
"""What stands for an object that cannot be read, of the kinds whose absence would let somebody in."""
M = TypeVar("M", bound=Model)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """What one document gives. ``key`` is None where the document does not name an object of a kind that we read.

    ``stand_in`` takes the place of an object that has an error, where no good version of it is known: a policy that
    cannot be read refuses what it might have refused.
    """

    key: ConfigKey | None = None
    object: Object | None = None
    diagnostics: tuple[Diagnostic, ...] = ()
    stand_in: Object | None = None


def name_stem(document: Mapping[str, object]) -> str | None:
    """How the name of an object that has none begins; None where it has one, or where this is no object.

    It is what ``metadata.generateName`` says, else made of the kind.
    """
    kind, fields = document.get("kind"), _metadata(document)
    if not (isinstance(kind, str) and kind and document.get("apiVersion")) or fields.get("name") not in (None, ""):
        return None
    said = fields.get("generateName")
    return said if isinstance(said, str) and said else f"unnamed-{kind.lower()}-"


def parse(document: Mapping[str, object], name: str = "") -> Parsed:
    """The object that a document holds, or findings that say why it holds none.

    A cluster-scoped object has namespace ""; a namespaced one without gets "default", as kubectl does.

    Args:
        document: a YAML or JSON mapping.
        name: the object's name where it has none; that it got one is a finding.
    """
    if name:
        parsed = parse({**document, "metadata": {**_metadata(document), "name": name}})
        if parsed.key is None:
            return parsed
        message = f"has no name; it is called {name} while it stands at this place"
        finding = diagnostic.warning(Code.MISSING_FIELD, parsed.key, "metadata", message)
        return replace(parsed, diagnostics=(finding, *parsed.diagnostics))
    named = _name(document)
    if isinstance(named, Diagnostic):
        return Parsed(diagnostics=(named,))
    info = registry.KINDS.get((named.group, named.kind))
    if info is None or info.model is None:
        return _without_model(named)
    key = named._replace(namespace=(named.namespace or DEFAULT_NAMESPACE) if info.namespaced else "")
    version = str(document["apiVersion"]).rpartition("/")[2]
    if version not in info.versions:
        message = f"{key.kind} has no version {version}; known are {', '.join(info.versions)}"
        return Parsed(diagnostics=(diagnostic.warning(Code.UNKNOWN_KIND, key, "apiVersion", message),))
    if key.namespace != named.namespace:
        metadata: Any = document["metadata"]
        document = {**document, "metadata": {**metadata, "namespace": key.namespace}}
    return _checked(info.model, document, key)


def _checked(kind: type[Object], document: Document, key: ConfigKey) -> Parsed:
    item, findings = _model(kind, document, key, by_name=False)
    if item is not None:
        findings += checks.check(item)
    if all(finding.severity is not Severity.ERROR for finding in findings):
        return Parsed(key=key, object=item, diagnostics=findings)
    closed = _CLOSED.get(kind)
    stand_in = closed(document, key) if closed else None
    return Parsed(key=key, diagnostics=findings, stand_in=stand_in)


def part(
    kind: type[M], document: Mapping[str, object], key: ConfigKey | None
) -> tuple[M | None, tuple[Diagnostic, ...]]:
    """A part of the API that is no object of its own, such as MeshConfig, with findings; None on an error.

    Such parts are read as protobuf JSON, which takes both spellings of a name (``mesh_mtls`` and ``meshMTLS``).
    """
    return _model(kind, document, key, by_name=True)


def part_of_text(
    kind: type[M], written: str, key: ConfigKey | None, place: str
) -> tuple[M | None, tuple[Diagnostic, ...]]:
    """A part of the API as YAML in a field of an object, such as ``data.mesh``; where nothing is written, an empty one.

    Findings are at ``place``, which is the field, and below it.
    """
    try:
        document = text.load(written)
    except text.UnreadableError as problem:
        message = f"{problem} (line {problem.line + 1} of the text)"
        return None, (diagnostic.error(Code.UNREADABLE, key, place, message),)
    if document is None:
        return kind(), ()
    if not isinstance(document, Mapping):
        return None, (diagnostic.error(Code.BAD_VALUE, key, place, "must be an object"),)
    item, found = part(kind, document, key)
    return item, tuple(replace(each, field=f"{place}.{each.field}" if each.field else place) for each in found)


def _name(document: Document) -> ConfigKey | Diagnostic:
    """The name that a document gives itself, as it stands there."""
    version, kind, fields = document.get("apiVersion"), document.get("kind"), _metadata(document)
    name, namespace = fields.get("name"), fields.get("namespace")
    given = {"apiVersion": version, "kind": kind, "metadata.name": name}
    missing = [field for field, value in given.items() if not isinstance(value, str) or not value]
    if missing:
        message = f"no Kubernetes object: it has no {', '.join(missing)}"
        return diagnostic.error(Code.NOT_AN_OBJECT, None, missing[0], message)
    key = ConfigKey(str(version).rpartition("/")[0], str(kind), namespace or "", str(name))
    for field, value in (("metadata.name", name), ("metadata.namespace", namespace)):
        if value is not None and not (isinstance(value, str) and _NAME.match(value)):
            message = f"{_short(value)} is no name: letters, digits, '-', '.', '_' and '~' only"
            return diagnostic.error(Code.BAD_VALUE, None, field, message)
    return key


def _metadata(document: Document) -> Mapping[str, Any]:
    metadata = document.get("metadata")
    return metadata if isinstance(metadata, Mapping) else {}


def _without_model(key: ConfigKey) -> Parsed:
    effect = registry.effect(key.group, key.kind)
    if effect is registry.Effect.SILENT:
        return Parsed()
    if effect is registry.Effect.NOT_YET:
        message = f"{key.kind} of {key.group} has no effect yet"
        return Parsed(diagnostics=(diagnostic.warning(Code.NOT_SUPPORTED, key, "", message),))
    meant = registry.near(key.group, key.kind)
    more = f"; did you mean {meant}?" if meant else ""
    message = f"{key.kind} of group {key.group} is not known here{more}"
    return Parsed(diagnostics=(diagnostic.warning(Code.UNKNOWN_KIND, key, "kind", message),))


def _model(
    kind: type[M], document: Document, key: ConfigKey | None, *, by_name: bool
) -> tuple[M | None, tuple[Diagnostic, ...]]:
    """Validate; where that fails, once more without nulls (as an API server reads them) and unknown fields."""
    try:
        return kind.model_validate(in_parts.read(kind, document), by_alias=True, by_name=by_name), ()
    except ValidationError:
        copy = _without_nulls(document)
    try:
        return kind.model_validate(copy, by_alias=True, by_name=by_name), ()
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False)
    findings = [_finding(detail, kind, key) for detail in details[:_MOST_FINDINGS]]
    if len(details) > _MOST_FINDINGS:
        message = f"and {len(details) - _MOST_FINDINGS} more findings in this object"
        findings.append(diagnostic.warning(Code.BAD_VALUE, key, "", message))
    if any(detail["type"] != _UNKNOWN for detail in details):
        return None, tuple(findings)
    for detail in details:
        _remove(copy, detail["loc"])
    return kind.model_validate(copy, by_alias=True, by_name=by_name), tuple(findings)


def _without_nulls(value: Any) -> Any:
    """A copy whose mappings have no null values."""
    if isinstance(value, Mapping):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_without_nulls(item) for item in value]
    return value


def _remove(tree: Any, steps: tuple[int | str, ...]) -> None:
    for step in steps[:-1]:
        tree = tree[step]
    del tree[steps[-1]]


def _finding(detail: ErrorDetails, kind: type[Model], key: ConfigKey | None) -> Diagnostic:
    steps = detail["loc"]
    field = path.join(steps[:-1] if steps and steps[-1] == _DICT_KEY else steps)
    if detail["type"] == _UNKNOWN:
        meant = spelling.near(kind, steps)
        more = f"; did you mean {meant}?" if meant else ""
        return diagnostic.warning(Code.UNKNOWN_FIELD, key, field, f"unknown field; it has no effect{more}")
    said = detail["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    reason = _SHAPES.get(detail["type"], said)
    given = "" if key is not None and key.kind == "Secret" else f", not {_short(detail['input'])}"
    message = reason if detail["type"] == "value_error" else f"must be {reason}{given}"
    return diagnostic.error(Code.BAD_VALUE, key, field, message)


def _short(value: object) -> str:
    """A value as it looks in JSON, or what it is where it is long or nested."""
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, bool):
        return str(value).lower()
    shown = repr(value)
    return shown if len(shown) <= _LONGEST_VALUE else f"{shown[:_LONGEST_VALUE]}..."
