"""Istio's own injection cases, compared by meaning, and how many of them are as Istio has them.

Compared: the injected pod, with lists of variables, mounts and volumes as sets, JSON in strings as JSON, quantities as
numbers. ``ACCEPTED`` names the cases that differ, with the reason.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from webhook import decision, inject, settings
from webhook.decision import part
from webhook.workload import Owner

ROOT = Path(os.environ.get("CONFORMANCE", "../shared/conformance")) / "inject"
CASES = sorted((ROOT / "cases").glob("*.json"))
CNI = "the CNI plugin in place of istio-init is not supported"
TEXT = "templates are data here, not text"
ACCEPTED: Mapping[str, str] = {
    "main-15-hello-mount-mtls-certs": "certificates mounted from Secrets are a form of Istio before 1.5",
    "main-17-hello-existing-cncf-networks": CNI,
    "main-18-hello-existing-cncf-networks-json": CNI,
    "main-24-cronjob": "Istio's kube-inject writes labels to the Job; ours go to the pod",
    "main-25-cronjob-old-version": "Istio's kube-inject writes labels to the Job; ours go to the pod",
    "main-53-custom-template": TEXT,
    "main-56-merge-probers": "a pod that has been injected is left alone",
    "main-70-gateway-spire": TEXT,
    "main-82-grpc-agent": "proxyless gRPC is not supported",
    "main-83-grpc-simple": "proxyless gRPC is not supported",
    "main-60-hello-openshift": CNI,
    "main-61-hello-openshift-custom-injection": CNI,
    "main-62-hello-openshift-tproxy": CNI,
}
UNITS = {"": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30}
JSON_VALUES = {"PROXY_CONFIG", "ISTIO_META_POD_PORTS", "ISTIO_KUBE_APP_PROBERS", "ISTIO_PROMETHEUS_ANNOTATIONS"}

pytestmark = pytest.mark.skipif(not CASES, reason=f"no cases at {ROOT}")


def config_of(case: Mapping[str, Any]) -> settings.InjectionConfig:
    values = json.loads((ROOT / case["values_file"]).read_text())
    mesh = json.loads((ROOT / "mesh_default.json").read_text()) | case["mesh_config_changes"]
    chart, proxy, init = values["global"], values["global"]["proxy"], values["global"]["proxy_init"]
    assert proxy["image"] == init["image"]
    old = case["features"] or case["id"].startswith("older")
    return settings.InjectionConfig(
        image=f"{chart['hub']}/{proxy['image']}:{chart['tag']}",
        image_pull_policy=chart["imagePullPolicy"],
        image_pull_secrets=tuple(chart["imagePullSecrets"]),
        proxy_config=mesh["defaultConfig"],
        capture=settings.Capture(
            include_ip_ranges=proxy["includeIPRanges"],
            exclude_ip_ranges=proxy["excludeIPRanges"],
            include_inbound_ports=proxy["includeInboundPorts"],
            exclude_inbound_ports=proxy["excludeInboundPorts"],
            include_outbound_ports=proxy["includeOutboundPorts"],
            exclude_outbound_ports=proxy["excludeOutboundPorts"],
        ),
        status_port=proxy["statusPort"],
        readiness_initial_delay=proxy["readinessInitialDelaySeconds"],
        readiness_period=proxy["readinessPeriodSeconds"],
        readiness_failures=proxy["readinessFailureThreshold"],
        resources=without_empty(proxy["resources"] or {}),
        network=chart["network"],
        native_sidecar=not old,
        rewrite_probes=True,
        merge_metrics=True,
    )


def pods(document: Mapping[str, Any]) -> list[tuple[dict[str, Any], Owner, str]]:
    """The pods of a document: of a List, a CronJob, anything with a template, or the document itself."""
    if document["kind"] == "List":
        return [pod for item in document["items"] for pod in pods(item)]
    owner = Owner(document["apiVersion"], document["kind"], document["metadata"].get("name", ""))
    namespace = document["metadata"].get("namespace", "default")
    if document["kind"] == "Pod":
        return [({"metadata": document["metadata"], "spec": document["spec"]}, owner, namespace)]
    template = document.get("spec", {}).get("template")
    if document["kind"] == "CronJob":
        template = document["spec"]["jobTemplate"]["spec"]["template"]
    return [(template, owner, namespace)] if template else []


def number(text: object) -> float:
    match = re.fullmatch(r"([0-9.]+)([a-zA-Z]*)", str(text))
    assert match, text
    return float(match[1]) * UNITS[match[2]]


def container(raw: Mapping[str, Any]) -> dict[str, Any]:
    made = {key: value for key, value in raw.items() if value not in (None, {}, [])}
    if "env" in made:
        made["env"] = {each["name"]: variable(each) for each in made["env"]}
    if "volumeMounts" in made:
        made["volumeMounts"] = {each["mountPath"]: each for each in made["volumeMounts"]}
    if "resources" in made:
        kinds = made["resources"].items()
        made["resources"] = {kind: {k: number(v) for k, v in each.items()} for kind, each in kinds if each}
    return made


def variable(each: Mapping[str, Any]) -> Any:
    if "valueFrom" in each:
        return each["valueFrom"]
    value = each.get("value", "")
    return json.loads(value) if each["name"] in JSON_VALUES else value


def volume(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in raw.items() if (key, value) != ("emptyDir", {})}


def meaning(pod: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {key: value for key, value in pod["metadata"].items() if value is not None}
    notes = dict(metadata.get("annotations") or {})
    for name in ("sidecar.istio.io/status", "proxy.istio.io/overrides"):
        if name in notes:
            notes[name] = without_empty(json.loads(notes[name]))
    spec = dict(pod["spec"])
    for kind in ("containers", "initContainers"):
        spec[kind] = [container(each) for each in spec.get(kind) or []]
    spec["imagePullSecrets"] = sorted(each["name"] for each in spec.get("imagePullSecrets") or [])
    spec["volumes"] = {each["name"]: volume(each) for each in spec.get("volumes") or []}
    return {
        "metadata": {**metadata, "annotations": notes},
        "spec": {k: v for k, v in spec.items() if v not in (None, {}, [])},
    }


def without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_empty(each) for key, each in value.items() if each not in (None, {}, [])}
    return [without_empty(each) for each in value] if isinstance(value, list) else value


def differences(before: Any, after: Any, path: str = "") -> list[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        keys = sorted(before.keys() | after.keys(), key=str)
        return [each for key in keys for each in differences(before.get(key), after.get(key), f"{path}.{key}")]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = zip(before, after, strict=True)
        return [each for index, (a, b) in enumerate(pairs) for each in differences(a, b, f"{path}[{index}]")]
    return [] if before == after else [f"{path}: {before!r} is {after!r}"]


def judge(case: Mapping[str, Any]) -> list[str]:
    """How our pods of a case differ from Istio's."""
    config, found = config_of(case), []
    given = [pod for document in yaml.safe_load_all(case["input_yaml"]) if document for pod in pods(document)]
    golden = [pod for document in yaml.safe_load_all(case["expected_yaml"] or "") if document for pod in pods(document)]
    if case["expected_error_substring"]:
        answers = [inject.inject(pod, config, "default", {"istio-injection": "enabled"}) for pod, *_ in given]
        return [] if any(answer.refused for answer in answers) else ["was not refused"]
    for (pod, owner, namespace), (wanted, *_) in zip(given, golden, strict=True):
        pod.setdefault("metadata", {})
        answer = inject.inject(pod, config, namespace, {"istio-injection": "enabled"}, owner)
        found += [str(each) for each in answer.diagnostics if answer.refused]
        found += differences(meaning(wanted), meaning(answer.pod))
    return found


@pytest.mark.parametrize("file", CASES, ids=lambda file: file.stem.removesuffix(".yaml"))
def test_pod_is_as_istio_makes_it(file: Path) -> None:
    case = json.loads(file.read_text())
    reason = ACCEPTED.get(file.stem.removesuffix(".yaml"))
    found = judge(case)
    if reason:
        assert found, f"no difference any more: take it from ACCEPTED ({reason})"
        pytest.skip(reason)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("file", sorted((ROOT / "inject_required").glob("*.json")), ids=lambda file: file.stem)
def test_policy_decides_as_istios(file: Path) -> None:
    case = json.loads(file.read_text())
    pod = {"metadata": case["metadata"], "spec": case["pod_spec"]}
    policy = settings.Policy(
        enabled=case["policy"] == "enabled",
        never=tuple(case["never_inject_selector"] or ()),
        always=tuple(case["always_inject_selector"] or ()),
    )
    assert decision.required(pod, policy, "test-namespace").inject == case["want"]
    assert part(pod, "spec") == case["pod_spec"]
    assert replace(policy) == policy
