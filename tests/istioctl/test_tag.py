"""Objects of a revision tag without a cluster: what is copied of the revision's own, what is kept of what was there."""

from __future__ import annotations

from typing import Any

from istioctl.tag import documents
from istioctl.views import injection


def injector(**config: Any) -> dict[str, Any]:
    hook = {
        "name": "rev.namespace.sidecar-injector.istio.io",
        "clientConfig": {**config, "caBundle": "Um9vdA=="},
        "timeoutSeconds": 7,
        "objectSelector": {"matchLabels": {"mine": "yes"}},
    }
    other = {"name": "other.example.com", "clientConfig": {}}
    labels = {"app": "sidecar-injector", "istio.io/rev": "canary", "team": "mesh", "helm.sh/chart": "istiod-1"}
    notes = {"note": "kept", "meta.helm.sh/release-name": "canary"}
    meta = {"name": "istio-sidecar-injector-canary", "labels": labels, "annotations": notes, "resourceVersion": "7"}
    return {"metadata": meta, "webhooks": [other, hook]}


SERVICE = {"name": "istiod-canary", "namespace": "istio-system", "path": "/inject", "port": 443}


def tag(name: str = "prod", **config: Any) -> documents.Tag:
    return documents.Tag(
        name=name, revision="canary", injector=injector(**(config or {"service": SERVICE})), account="istiod-canary"
    )


def test_a_tag_has_everything_of_the_revisions_webhook_but_its_selectors_and_its_owner() -> None:
    made = documents.webhook(tag())
    assert made["metadata"] == {
        "name": "istio-revision-tag-prod",
        "labels": {
            "app": "sidecar-injector",
            "istio.io/rev": "canary",
            "istio.io/tag": "prod",
            "team": "mesh",
            "app.kubernetes.io/managed-by": "istioctl",
        },
        "annotations": {"note": "kept"},
    }
    names = [each["name"].removesuffix(f".{injection.INJECTOR}") for each in made["webhooks"]]
    assert names == ["rev.namespace", "rev.object"]
    for each in made["webhooks"]:
        assert (each["timeoutSeconds"], each["clientConfig"]["caBundle"]) == (7, "Um9vdA==")
        assert "matchLabels" not in each["objectSelector"]
    default = [each["name"].partition(".sidecar")[0] for each in documents.webhook(tag("default"))["webhooks"]]
    assert default == ["rev.namespace", "rev.object", "namespace", "object"]


def test_a_control_plane_at_an_address_validates_at_another_path() -> None:
    made = documents.validator(tag("default", url="https://istiod.example:15017/inject/cluster/a"), None)
    assert made["webhooks"][0]["clientConfig"] == {
        "url": "https://istiod.example:15017/validate",
        "caBundle": "Um9vdA==",
    }
    there = {"webhooks": [{"name": "validation.istio.io", "failurePolicy": "Fail", "clientConfig": {"service": {}}}]}
    (kept,) = documents.validator(tag("default"), there)["webhooks"]
    assert (kept["failurePolicy"], kept["clientConfig"]["service"]) == ("Fail", {**SERVICE, "path": "/validate"})


def test_what_others_wrote_into_an_object_stays() -> None:
    found = {"metadata": {"labels": {"app": "old", "team": "shop"}, "annotations": {"a": "b"}, "resourceVersion": "9"}}
    made = documents.laid_over({"metadata": {"name": "x", "labels": {"app": "new"}}, "webhooks": []}, found)
    assert made["metadata"] == {
        "name": "x",
        "labels": {"app": "new", "team": "shop"},
        "annotations": {"a": "b"},
        "resourceVersion": "9",
    }


def test_an_injector_that_is_deactivated_keeps_what_it_calls() -> None:
    change = documents.deactivated(injector(service=SERVICE))
    assert change["metadata"] == {"resourceVersion": "7"}
    assert [each["clientConfig"].get("service") for each in change["webhooks"]] == [None, SERVICE]
    assert all(each["objectSelector"] == injection.DEACTIVATED for each in change["webhooks"])


def test_a_revision_with_tags_is_listed_by_these() -> None:
    def made(revision: str, tag: str = "") -> dict[str, Any]:
        return {"metadata": {"labels": {"istio.io/rev": revision, **({"istio.io/tag": tag} if tag else {})}}}

    spaces = [{"metadata": {"name": name, "labels": {"istio.io/rev": of}}} for name, of in ("bp", "ap", "cx")]
    found = documents.listed([made("x"), made("y", "p"), made("y")], spaces)
    assert found == [
        {"tag": "", "revision": "x", "namespaces": ["c"]},
        {"tag": "p", "revision": "y", "namespaces": ["a", "b"]},
    ]
