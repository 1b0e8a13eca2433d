"""Kubernetes objects as raw documents: names, labels, selectors, and how a text becomes objects.

Pod specs stay raw here, since injection works on raw pods and a field that we do not know must reach it. What the
fields of a document mean to the mesh is the business of the modules that read them.
"""

from __future__ import annotations

import base64
import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from crds import diagnostic, lines, registry
from crds.diagnostic import Code, Diagnostic, Position
from crds.key import NETWORKING, ConfigKey
from crds.text import Chunk, UnreadableError

Raw = dict[str, Any]

CLUSTER_SCOPED = frozenset({"Namespace", "Node", "CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding"})
# What this node acts on; any other kind is configuration that goes to the control plane as it stands.
NODE_KINDS = frozenset(
    {
        ("", "Namespace"),
        ("", "Node"),
        ("", "Service"),
        ("", "ServiceAccount"),
        ("", "ConfigMap"),
        ("", "Secret"),
        ("", "Pod"),
        ("apps", "Deployment"),
    }
)
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._~-]{0,251}[A-Za-z0-9])?")  # names become names of folders and files


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One object of a file: the raw object, and where it stands: in which text of the file, and where in that."""

    raw: Raw
    file: str
    chunk: Chunk
    place: str = ""

    def at(self, field: str = "") -> Position:
        """The line of a field, or of its nearest parent that is there."""
        return Position(file=self.file, line=lines.nearest(lines.find(self.chunk), self.place, field))


def key_of(raw: Mapping[str, Any]) -> ConfigKey:
    """The object's name in the store."""
    meta = raw.get("metadata") or {}
    group, slash, _ = str(raw.get("apiVersion", "")).partition("/")
    kind = str(raw.get("kind", ""))
    namespace = "" if kind in CLUSTER_SCOPED else str(meta.get("namespace") or "default")
    return ConfigKey(group if slash else "", kind, namespace, str(meta.get("name", "")))


def kind_of(word: str) -> tuple[str, str]:
    """Group and kind of what users call a kind: as in YAML, or kubectl's singular or plural in any case.

    Of two kinds with one name (Gateway), it is Istio's. An unknown word is taken for a kind of Istio's networking.
    """
    wanted = word.lower()
    for (group, kind), info in registry.KINDS.items():
        if wanted in {kind.lower(), info.plural}:
            return group, kind
    return NETWORKING, word


def data_of(raw: Mapping[str, Any]) -> dict[str, str]:
    """The data of a ConfigMap or Secret as text; binary data of Secrets that is no UTF-8 is left out."""
    data = {str(k): str(v) for k, v in (raw.get("data") or {}).items()}
    if raw.get("kind") != "Secret":
        return data
    out = {str(k): str(v) for k, v in (raw.get("stringData") or {}).items()}
    for key, value in data.items():
        try:
            out.setdefault(key, base64.b64decode(value, validate=True).decode())
        except ValueError:
            continue
    return out


def is_for_node(key: ConfigKey) -> bool:
    """Whether this node acts on objects of that kind."""
    return (key.group, key.kind) in NODE_KINDS


def is_for_both(key: ConfigKey) -> bool:
    """Whether the node's injection reads objects of that kind, which are configuration for the control plane, too."""
    return (key.group, key.kind) == (NETWORKING, "ProxyConfig")


def labels_of(raw: Mapping[str, Any]) -> dict[str, str]:
    """The object's labels."""
    return {str(k): str(v) for k, v in ((raw.get("metadata") or {}).get("labels") or {}).items()}


def annotations_of(raw: Mapping[str, Any]) -> dict[str, str]:
    """The object's annotations."""
    return {str(k): str(v) for k, v in ((raw.get("metadata") or {}).get("annotations") or {}).items()}


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether an equality selector chooses something with these labels. An empty selector chooses nothing."""
    return bool(selector) and all(labels.get(str(k)) == str(v) for k, v in selector.items())


def _with_namespace(raw: Raw, namespace: str) -> Raw:
    """The object with its namespace written out."""
    meta = {**(raw.get("metadata") or {})}
    if raw["kind"] not in CLUSTER_SCOPED:
        meta["namespace"] = meta.get("namespace") or namespace
    return {**raw, "metadata": meta}


def read(text: str, file: str, namespace: str = "default") -> tuple[list[Document], list[Diagnostic]]:
    """The objects of a YAML text, read as istiod reads it, and what is wrong with the rest of it.

    Objects without a namespace get ``namespace``, as ``kubectl -n`` does.
    """
    documents: list[Document] = []
    found: list[Diagnostic] = []
    for chunk in lines.split(file, text):
        try:
            body = lines.load(file, chunk)
        except UnreadableError as error:
            at = Position(file=file, line=chunk.line + error.line + 1)
            found.append(diagnostic.error(Code.UNREADABLE, None, "", str(error)).at(at))
            continue
        for place, raw in lines.unroll(body) if body is not None else ():
            if _is_object(raw):
                documents.append(Document(raw=_with_namespace(raw, namespace), file=file, chunk=chunk, place=place))
                continue
            message = "no apiVersion, kind and metadata.name as Kubernetes has them"
            at = Position(file=file, line=lines.nearest(lines.find(chunk), place, ""))
            found.append(diagnostic.error(Code.NOT_AN_OBJECT, None, "", message).at(at))
    return documents, found


def _is_object(raw: object) -> TypeGuard[Raw]:
    """Whether this has what every object has."""
    if not isinstance(raw, dict) or not raw.get("apiVersion") or not raw.get("kind"):
        return False
    meta = raw.get("metadata")
    if not isinstance(meta, dict):
        return False
    given = (raw["kind"], meta.get("name") or "", meta.get("namespace") or "default")
    return all(_NAME.fullmatch(str(name)) for name in given)


def copied(raw: Mapping[str, Any]) -> Raw:
    """A deep copy that may be changed."""
    return copy.deepcopy(dict(raw))
