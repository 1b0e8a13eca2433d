"""YAML documents in, the same with sidecars out: what kube-inject prints (features S18, A24). Pure.

A workload's pod template gets what the webhook gives its pods. Everything else passes as it was written, comments
included; a changed document keeps the order of its fields.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml

from crds import lines, parse, text
from crds.diagnostic import Severity
from webhook import decision, inject, mutation, workload
from webhook.decision import part
from webhook.settings import InjectionConfig

_TEMPLATES: Final[Mapping[str, tuple[str, ...]]] = {
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
    "DaemonSet": ("spec", "template"),
    "Deployment": ("spec", "template"),
    "DeploymentConfig": ("spec", "template"),
    "Job": ("spec", "template"),
    "ReplicaSet": ("spec", "template"),
    "ReplicationController": ("spec", "template"),
    "Rollout": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "Pod": (),
}
"""Where a kind keeps its pod."""
_MARKER: Final = re.compile(r"---(?=\s|\Z)")
_NUMBER_LIKE: Final = re.compile(r"[-+]?[.0-9]")
_WORDS: Final = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null", "~"})


class DocumentError(ValueError):
    """A document cannot be read, or its pods cannot be injected; the message says which and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where the documents will go. ``annotations`` are those of a namespace, asked for where they matter: OpenShift."""

    config: InjectionConfig
    namespace: str = "default"
    annotations: Callable[[str], Mapping[str, str]] = lambda _: {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Injected:
    """The documents as text, and what a person should know of them."""

    text: str
    remarks: tuple[str, ...] = ()


def inject_all(name: str, content: str, target: Target) -> Injected:
    """Inject every workload of a file.

    Args:
        name: the file's; one that ends in .json is JSON.
        content: its text.
        target: where it will go, and the injector's settings.

    Raises:
        DocumentError: a document cannot be read or injected.
    """
    remarks: list[str] = []
    written: list[str] = []
    for chunk in lines.split(name, content):
        try:
            document = lines.load(name, chunk)
        except text.UnreadableError as problem:
            raise DocumentError(f"{name}, line {chunk.line + problem.line + 1}: {problem}") from problem
        changed = _injected(document, target, remarks)
        written.append(chunk.text if changed is document else dump(changed))
    *before, last = [_body(each) for each in written] or [""]
    closed = (each if each.endswith("\n") else f"{each}\n" for each in before)
    return Injected(text="---\n".join((*closed, last)), remarks=tuple(remarks))


def _body(document: str) -> str:
    """A document without the marker before it. How it ends stays: that may be a value's."""
    marker = _MARKER.match(document)
    return document[marker.end() if marker else 0 :].lstrip("\n")


def _injected(document: Any, target: Target, remarks: list[str]) -> Any:
    """The document with its pods injected; the document itself where nothing is to be done."""
    if not isinstance(document, Mapping):
        return document
    kind = document.get("kind")
    if kind == "List" and isinstance(document.get("items"), list):
        made = [_injected(each, target, remarks) for each in document["items"]]
        same = all(a is b for a, b in zip(made, document["items"], strict=True))
        return document if same else {**document, "items": made}
    way = _TEMPLATES.get(str(kind))
    return document if way is None else _replaced(document, way, document, target, remarks)


def _replaced(
    value: Mapping[str, Any], way: tuple[str, ...], document: Mapping[str, Any], target: Target, remarks: list[str]
) -> Mapping[str, Any]:
    if not way:
        return _pod(value, document, target, remarks)
    below = value.get(way[0])
    if not isinstance(below, Mapping):
        return value
    made = _replaced(below, way[1:], document, target, remarks)
    return value if made is below else {**value, way[0]: made}


def _pod(pod: Mapping[str, Any], document: Mapping[str, Any], target: Target, remarks: list[str]) -> Mapping[str, Any]:
    metadata = part(document, "metadata")
    owner = workload.Owner(str(document.get("apiVersion")), str(document["kind"]), str(metadata.get("name") or ""))
    namespace = str(metadata.get("namespace") or target.namespace)
    named = f"{owner.kind} {namespace}/{owner.name}"
    needed = decision.required(pod, target.config.policy, namespace)
    if not needed.inject:
        remarks.append(f"{named} is not injected: {needed.reason}")
        return pod
    if wrong := _misshapen(pod):
        raise DocumentError(f"{named} cannot be injected: {wrong}")
    given = {**pod, "metadata": pod.get("metadata") or {}}
    of_namespace = target.annotations(namespace) if target.config.openshift else {}
    made = inject.render(given, target.config, namespace, owner, needed, of_namespace)
    if made.refused:
        raise DocumentError(f"{named} cannot be injected: {mutation.reasons(made.diagnostics)}")
    if not made.decision.inject:
        remarks.append(f"{named} is not injected: {made.decision.reason}")
        return pod
    remarks.extend(f"{named}: {warning}" for warning in mutation.warnings(made.diagnostics))
    return made.pod


def _misshapen(pod: Mapping[str, Any]) -> str:
    """Why no API server would take a pod, which is not there to be asked; "" where it would.

    What has another form than a pod's would be left out of it, containers too.
    """
    said = {key: value for key, value in part(pod, "metadata").items() if key in ("labels", "annotations")}
    whole = {"apiVersion": "v1", "kind": "Pod", "metadata": {**said, "name": "any"}, "spec": pod.get("spec")}
    found = parse.parse(whole).diagnostics
    return "; ".join(f"{each.field}: {each.message}" for each in found if each.severity is Severity.ERROR)


def dump(document: Mapping[str, Any]) -> str:
    """A document as YAML that kubectl reads as the same values."""
    return yaml.dump(_plain(document), Dumper=_Dumper, sort_keys=False, default_flow_style=False, allow_unicode=True)


def _plain(value: object) -> object:
    """Without shared parts, which YAML would write as aliases."""
    return json.loads(json.dumps(value))


class _Dumper(yaml.SafeDumper):
    """Quotes what YAML readers do not agree on: 1e3, 0o7 and 12:30 are strings to some only."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    ambiguous = _NUMBER_LIKE.match(value) is not None or value.lower() in _WORDS
    style = "|" if "\n" in value else '"' if ambiguous else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)
