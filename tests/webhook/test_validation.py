"""What /validate answers: refused with a reason, let through with a warning, or none of its business."""

from __future__ import annotations

import json
from typing import Any

from tests.webhook.reviews import review
from webhook import answers, validation
from webhook import review as reviews

BAD: dict[str, Any] = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "VirtualService",
    "metadata": {"name": "web", "namespace": "demo"},
    "spec": {"hosts": ["web"], "http": [{"route": [{"destination": {"host": ""}}]}]},
}


def answer(item: Any, **more: Any) -> Any:
    body = json.dumps(review(item, **more)).encode()
    return json.loads(answers.validate(body, validation.check)[0])["response"]


def test_a_refusal_names_object_field_and_reason() -> None:
    found = answer(BAD)
    assert (found["allowed"], found["status"]["code"]) == (False, 422)
    assert found["status"]["message"].startswith("VirtualService demo/web: spec.http[0].route[0].destination.host: ")


def test_many_errors_are_counted_and_long_warnings_cut() -> None:
    unknown = dict.fromkeys(["x" * 300, *"abcdefghijklmnop"], 1)
    many = {**BAD, "spec": {"hosts": ["web"], "http": BAD["spec"]["http"] * 9, **unknown}}
    found = answer(many)
    assert "; and 4 more" in found["status"]["message"]
    assert len(found["warnings"]) == 16
    assert all(len(each) <= 256 for each in found["warnings"])


def test_deletions_foreign_groups_and_objects_that_leave_pass() -> None:
    assert answer(None, operation="DELETE", oldObject=BAD) == {"uid": review(BAD)["request"]["uid"], "allowed": True}
    assert answer({**BAD, "apiVersion": "example.org/v1"})["allowed"]
    leaving = {**BAD, "metadata": {**BAD["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": []}}
    found = answer(leaving, operation="UPDATE", oldObject={**BAD, "spec": {}})
    assert found["allowed"]
    assert "the object has no effect" in found["warnings"][0]
    assert answer(BAD, operation="UPDATE", oldObject=BAD)["allowed"]
    for kind in ("AuthorizationPolicy", "RequestAuthentication"):
        closed = {
            "apiVersion": "security.istio.io/v1",
            "kind": kind,
            "metadata": {"name": "a", "namespace": "b"},
            "spec": {"selector": 7},
        }
        found = answer(closed, operation="UPDATE", oldObject=closed)
        assert found["allowed"]
        assert found["warnings"][0].startswith("the object refuses whatever it might have refused, unless istiod knows")
    assert not answer(BAD, operation="UPDATE", oldObject={**BAD, "spec": {}})["allowed"]


def test_what_only_admission_refuses_is_used_where_it_is() -> None:
    odd = {**BAD, "spec": {"hosts": ["web"], "http": [{"route": [{"destination": {"host": "b"}}], "timeout": "0s"}]}}
    assert validation.named(odd).object is not None
    found = answer(odd)
    assert not found["allowed"]
    assert found["status"]["message"].endswith("spec.http[0].timeout: must be at least 0.001s [M0134]")
    found = answer(odd, operation="UPDATE", oldObject=odd)
    assert found["allowed"]
    assert found["warnings"][0].startswith("the object is in effect, and would be refused if it were new: spec.http[0]")


def test_a_kind_without_effect_is_let_through_with_a_warning() -> None:
    plugin = {"apiVersion": "extensions.istio.io/v1alpha1", "kind": "WasmPlugin", "metadata": {"generateName": "w-"}}
    found = answer({**plugin, "spec": {"url": "a"}})
    assert found["allowed"]
    assert any("has no effect yet" in each for each in found["warnings"])


def test_the_namespace_of_a_review_is_read() -> None:
    assert answers.namespace_of(json.dumps(review(BAD)).encode()) == "demo"
    assert reviews.read(json.dumps(review(BAD)).encode()).name == ""
