"""Istio's injection cases, compared by meaning: groups inject and inject_required.

Of an injected pod, lists of variables, mounts and volumes count as sets, JSON in strings as JSON, quantities as values.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from conformance import difference
from conformance.difference import Difference
from webhook import decision, inject, settings, values
from webhook.workload import Owner

_UNITS: Final = {"": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30}
_JSON_VALUES: Final = {"PROXY_CONFIG", "ISTIO_META_POD_PORTS", "ISTIO_KUBE_APP_PROBERS", "ISTIO_PROMETHEUS_ANNOTATIONS"}
_NAMESPACE_LABELS: Final = {"istio-injection": "enabled"}


def pod(path: Path) -> Iterator[Difference]:
    """How our pods of a case differ from Istio's."""
    case = json.loads(path.read_text())
    config = _config(case, path.parents[1])
    given, wanted = _all(case["input_yaml"]), _all(case["expected_yaml"] or "")
    namespaces = json.loads((path.parents[1] / "namespace_objects.json").read_text())
    known = {each["metadata"]["name"]: each["metadata"]["annotations"] for each in namespaces}
    if case["expected_error_substring"]:
        if not any(inject.inject(each, config, "default", _NAMESPACE_LABELS).refused for each, *_ in given):
            yield difference.of("", "refused", case["expected_error_substring"], None)
        return
    for (each, owner, namespace), (golden, *_) in zip(given, wanted, strict=True):
        each.setdefault("metadata", {})
        answer = inject.inject(each, config, namespace, _NAMESPACE_LABELS, owner, known.get(namespace))
        if answer.refused:
            yield difference.of("", "refused", None, [str(finding) for finding in answer.diagnostics])
        yield from difference.leaves("", "pod", _meaning(golden), _meaning(answer.pod))


def required(path: Path) -> Iterator[Difference]:
    """Whether a pod is injected at all."""
    case = json.loads(path.read_text())
    policy = settings.Policy(
        enabled=case["policy"] == "enabled",
        never=tuple(case["never_inject_selector"] or ()),
        always=tuple(case["always_inject_selector"] or ()),
    )
    given = {"metadata": case["metadata"], "spec": case["pod_spec"]}
    found = decision.required(given, policy, "test-namespace").inject
    yield from difference.leaves("", "inject", case["want"], found)


def template(path: Path) -> Iterator[Difference]:
    """What templates of an administrator's own make of a pod; its annotations are those of Istio's test harness."""
    case = json.loads(path.read_text())
    said = {"templates": case["templates"], "aliases": case["aliases"], "defaultTemplates": case["default_templates"]}
    found = values.from_values(values.Texts(config=json.dumps(said))).config
    if found is None:
        raise ValueError("templates that cannot be read")
    given, wanted = yaml.safe_load(case["input_yaml"]), yaml.safe_load(case["want_yaml"])
    answer = inject.inject(given, found, "default", _NAMESPACE_LABELS)
    alike = (_meaning(each) for each in (wanted, answer.pod))
    ours, theirs = ({**each, "metadata": each["metadata"].get("labels")} for each in alike)
    yield from difference.leaves("", "pod", ours, theirs)


def _config(case: Mapping[str, Any], root: Path) -> settings.InjectionConfig:
    mesh = json.loads((root / "mesh_default.json").read_text()) | case["mesh_config_changes"]
    never = any(each["env"] == "ENABLE_NATIVE_SIDECARS" for each in case["features"].values())
    found = values.from_values(
        values.Texts(values=(root / case["values_file"]).read_text(), mesh=json.dumps(mesh)),
        values.Surroundings(
            kubelets=tuple(case["node_kubelet_versions"]),
            native_sidecars="false" if never else "auto",
            openshift=case["env"].get("PLATFORM") == "openshift",
        ),
    )
    if found.config is None:
        raise ValueError(f"values that cannot be read: {[str(each) for each in found.diagnostics]}")
    return found.config


def _all(text: str) -> list[tuple[dict[str, Any], Owner, str]]:
    return [found for document in yaml.safe_load_all(text) if document for found in _pods(document)]


def _pods(document: Mapping[str, Any]) -> list[tuple[dict[str, Any], Owner, str]]:
    """The pods of a document: of a List, a CronJob, anything with a template, or the document itself."""
    if document["kind"] == "List":
        return [found for item in document["items"] for found in _pods(item)]
    owner = Owner(document["apiVersion"], document["kind"], document["metadata"].get("name", ""))
    namespace = document["metadata"].get("namespace", "default")
    if document["kind"] == "Pod":
        return [({"metadata": document["metadata"], "spec": document["spec"]}, owner, namespace)]
    spec = document.get("spec", {})
    if document["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    return [(spec["template"], owner, namespace)] if spec.get("template") else []


def _meaning(given: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {key: value for key, value in given["metadata"].items() if value is not None}
    notes = dict(metadata.get("annotations") or {})
    for name in ("sidecar.istio.io/status", "proxy.istio.io/overrides"):
        if name in notes:
            notes[name] = _without_empty(json.loads(notes[name]))
    spec = dict(given["spec"])
    for kind in ("containers", "initContainers"):
        spec[kind] = [_container(each) for each in spec.get(kind) or []]
    spec["imagePullSecrets"] = sorted(each["name"] for each in spec.get("imagePullSecrets") or [])
    spec["volumes"] = {each["name"]: _volume(each) for each in spec.get("volumes") or []}
    spec = {key: value for key, value in spec.items() if value not in (None, {}, [])}
    return {"metadata": {**metadata, "annotations": notes}, "spec": spec}


def _container(raw: Mapping[str, Any]) -> dict[str, Any]:
    made = {key: value for key, value in raw.items() if value not in (None, {}, [])}
    if "env" in made:
        made["env"] = {each["name"]: _variable(each) for each in made["env"]}
    if "volumeMounts" in made:
        made["volumeMounts"] = {each["mountPath"]: each for each in made["volumeMounts"]}
    if "resources" in made:
        kinds = made["resources"].items()
        made["resources"] = {kind: {k: _number(v) for k, v in each.items()} for kind, each in kinds if each}
    return made


def _variable(each: Mapping[str, Any]) -> Any:
    if "valueFrom" in each:
        return each["valueFrom"]
    value = each.get("value", "")
    return json.loads(value) if each["name"] in _JSON_VALUES else value


def _volume(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in raw.items() if (key, value) != ("emptyDir", {})}


def _number(text: object) -> float:
    match = re.fullmatch(r"([0-9.]+)([a-zA-Z]*)", str(text))
    if match is None:
        raise ValueError(f"{text!r} is no quantity")
    return float(match[1]) * _UNITS[match[2]]


def _without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_empty(each) for key, each in value.items() if each not in (None, {}, [])}
    return [_without_empty(each) for each in value] if isinstance(value, list) else value
