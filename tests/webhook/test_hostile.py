"""Pods whose annotations were made to break out (SEC38, SEC39): refused with the field, or injected as data."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from crds import proxy_annotation
from tests.webhook.reviews import CONFIG, patched, pod, review
from webhook import annotations as notes
from webhook import inject, mutation
from webhook import review as reviews

NAMES = sorted({*notes.CHECKS, *notes.UNSUPPORTED, proxy_annotation.NAME, notes.TEMPLATES, notes.OVERRIDES})
EVIL = [
    "a\nprivileged: true",
    "x\n    securityContext: {runAsUser: 0}",
    '"}]}, "hostNetwork": true, "x": [{"y": "',
    "{{ .Values.global.hub }}",
    "${HOME}$(id)`id`",
    "!!python/object/apply:os.system ['id']",
    "&a [*a, *a]",
    "info --privileged",
    "15001 -j ACCEPT; rm -rf /",
    "1,2 -m owner",
    "../../etc/passwd",
    "debug,custom,privileged",
    '{"root": {"hostPath": {"path": "/"}, "name": "istio-token"}}',
    '{"istio-token": {"name": "x", "mountPath": "/"}}',
    "[" * 5000,
    "9" * 5000,
    "-1",
    "\N{ARABIC-INDIC DIGIT ONE}",
    "\x00",
    "proxyMetadata: {'A\nB': x}",
    "proxyMetadata: {IPTABLES_TRACE_LOGGING: 'true'}",
    "interceptionMode: EVIL",
    "holdApplicationUntilProxyStarts: {{true}}",
    "image: {imageType: 'x\ny'}",
]
VALUES = st.one_of(
    st.sampled_from(EVIL), st.text(max_size=40), st.sampled_from(["", "*", "80", "true", "NONE", "TPROXY"])
)
ANNOTATIONS = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=4)
NOT_OURS = {"hostNetwork", "hostPID", "hostIPC", "serviceAccountName", "nodeName", "securityContext", "tolerations"}
USERS = {"istio-init": {0}, "istio-proxy": {1337, 0}}
NEEDS_ROOT = {f"{notes.SIDECAR}interceptionMode": "TPROXY", notes.BIND_LOW_PORTS: "true"}
"""What Istio lets a pod's owner ask for that its sidecar runs as root for."""


@settings(max_examples=300, deadline=None)
@given(ANNOTATIONS)
@example({notes.BIND_LOW_PORTS: "true"})
@example({notes.BIND_LOW_PORTS: "false"})
def test_an_annotation_changes_values_and_never_the_shape(hostile: dict[str, str]) -> None:
    before = pod(hostile)
    asked = reviews.read(json.dumps(review(before)).encode())
    answer = mutation.answer(asked, CONFIG)
    if not answer.allowed:
        assert answer.code == 400
        assert "metadata.annotations[" in answer.reason
        return
    after: Any = patched(before, json.loads(reviews.write(asked, answer)))
    assert not NOT_OURS & after["spec"].keys() or "gateway" in hostile.get(notes.TEMPLATES, "")
    containers = [*after["spec"].get("initContainers", []), *after["spec"]["containers"]]
    assert {each["name"] for each in containers} <= {"app", "istio-init", "istio-proxy"}
    for each in containers:
        if each["name"] == "app":
            assert each == before["spec"]["containers"][0]
            continue
        security = each["securityContext"]
        assert not security.get("privileged")
        assert not security.get("allowPrivilegeEscalation")
        assert security["runAsUser"] in USERS[each["name"]]
        assert security["runAsUser"] != 0 or each["name"] == "istio-init" or NEEDS_ROOT.items() & hostile.items()
        assert not any("\n" in argument or "\x00" in argument for argument in each["args"])
        assert each["args"][0] in {"proxy", "istio-iptables"}
        assert each["image"].startswith(CONFIG.image) or each["image"] == hostile.get("sidecar.istio.io/proxyImage")


@settings(max_examples=100, deadline=None)
@given(ANNOTATIONS, st.sampled_from(["sidecar", "gateway"]))
def test_the_patch_makes_the_pod_and_a_second_injection_changes_nothing(said: dict[str, str], template: str) -> None:
    before = pod({**said, notes.TEMPLATES: template})
    kept = copy.deepcopy(before)
    made = inject.render(before, CONFIG, "demo")
    assert before == kept
    if made.refused:
        return
    asked = reviews.read(json.dumps(review(before)).encode())
    answer = json.loads(reviews.write(asked, mutation.answer(asked, CONFIG)))
    assert patched(before, answer) == json.loads(json.dumps(made.pod))
    again = inject.render(made.pod, CONFIG, "demo")
    assert again.patch == ()
    assert again.pod == made.pod


def test_a_container_whose_name_is_none_is_left_as_it_is() -> None:
    """An API server sends no such pod; whoever does gets an answer."""
    before = pod({})
    before["spec"]["containers"] += [{"name": {"a": 1}}, {"name": [1]}]
    asked = reviews.read(json.dumps(review(before)).encode())
    after: Any = patched(before, json.loads(reviews.write(asked, mutation.answer(asked, CONFIG))))
    found = [each["name"] for each in after["spec"]["containers"]]
    assert {"a": 1} in found
    assert [1] in found
    assert "istio-proxy" in found
