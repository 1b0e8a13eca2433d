"""The objects of a revision tag, made from the webhook of the revision that it leads to. Pure.

The chart makes the same of its value ``revisionTags``; a test holds both against each other. A tag that the chart did
not make brings the right for istiod to write its caBundle: the chart names the objects that istiod may change, one by
one, and without it the webhook would be lost with the next root.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from istioctl.views import injection
from webhook.decision import INJECT, NAMESPACE_INJECTION
from webhook.settings import Policy
from wire import names
from wire.names import LABEL_REVISION

Json = dict[str, Any]
Read = Mapping[str, Any]

TAG: Final = "istio.io/tag"
DEFAULT: Final = "default"
MANAGED: Final = "app.kubernetes.io/managed-by"
OURS: Final = "istioctl"
VALIDATOR: Final = "istiod-default-validator"
ADMISSION: Final = "admissionregistration.k8s.io"
RIGHTS: Final = "rbac.authorization.k8s.io"
_VALIDATES: Final = "validation.istio.io"
_VALIDATED: Final = (
    *("security.istio.io", "networking.istio.io", "telemetry.istio.io"),
    *("extensions.istio.io", "extensions.istiod.dev"),
)
_HELMS: Final = frozenset(("app", "release", "app.kubernetes.io/instance", MANAGED, "helm.sh/chart"))
_NOT_COPIED: Final = ("meta.helm.sh/", "kubectl.kubernetes.io/")
_SELECTED: Final = ("name", "namespaceSelector", "objectSelector")
_UNREVISED: Final = {"key": LABEL_REVISION, "operator": "DoesNotExist"}
_UNSAID: Final = {"key": NAMESPACE_INJECTION, "operator": "DoesNotExist"}
_WILLING: Final = {"key": INJECT, "operator": "NotIn", "values": ["false"]}
_WISHED: Final = {"key": INJECT, "operator": "In", "values": ["true"]}
_UNWISHED: Final = {"key": INJECT, "operator": "DoesNotExist"}
_ENABLED: Final = {"key": NAMESPACE_INJECTION, "operator": "In", "values": ["enabled"]}
_OUTSIDE: Final = {
    "key": "kubernetes.io/metadata.name",
    "operator": "NotIn",
    "values": list(Policy().ignored_namespaces),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag:
    """What is wanted. ``injector`` is the revision's own webhook configuration, ``account`` its istiod's account."""

    name: str
    revision: str
    injector: Read
    root: str = names.ROOT_NAMESPACE
    account: str = ""
    webhook_name: str = ""
    by_default: bool = False

    @property
    def called(self) -> str:
        """The name of what is made, which has no namespace: it carries the mesh's where that is not the usual one."""
        return f"istio-revision-tag-{self.name}" + (f"-{self.root}" if self.root != names.ROOT_NAMESPACE else "")

    @property
    def hook(self) -> Read:
        """The revision's own webhook, of which all are alike but for their selectors."""
        return next(each for each in self.injector["webhooks"] if each["name"].endswith(injection.INJECTOR))

    def labels(self, app: str) -> Json:
        """The labels of an object of this tag."""
        own = {key: value for key, value in self.injector["metadata"]["labels"].items() if key not in _HELMS}
        return {"app": app, **own, LABEL_REVISION: self.revision, TAG: self.name, MANAGED: OURS}


def webhook(tag: Tag) -> Json:
    """The webhooks that are asked by the tag's name; the default tag answers ``istio-injection``, too."""
    shared = {key: value for key, value in tag.hook.items() if key not in _SELECTED}
    annotations = tag.injector["metadata"].get("annotations") or {}
    kept = {key: value for key, value in annotations.items() if not key.startswith(_NOT_COPIED)}
    return {
        "apiVersion": f"{ADMISSION}/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {
            "name": tag.webhook_name or tag.called,
            "labels": tag.labels("sidecar-injector"),
            **({"annotations": kept} if kept else {}),
        },
        "webhooks": [
            {
                **shared,
                "name": f"{name}.{injection.INJECTOR}",
                "namespaceSelector": {"matchExpressions": [*namespace, _OUTSIDE]},
                "objectSelector": {"matchExpressions": pod},
            }
            for name, namespace, pod in _selectors(tag)
        ],
    }


def _selectors(tag: Tag) -> Iterator[tuple[str, list[Json], list[Json]]]:
    mine = {"key": LABEL_REVISION, "operator": "In", "values": [tag.name]}
    yield "rev.namespace", [mine, _UNSAID], [_WILLING]
    yield "rev.object", [_UNREVISED, _UNSAID], [_WILLING, mine]
    if tag.name == DEFAULT:
        yield "namespace", [_ENABLED], [_WILLING]
        yield "object", [_UNSAID, _UNREVISED], [_WISHED, _UNREVISED]
        if tag.by_default:
            yield "auto", [_UNSAID, _UNREVISED], [_UNWISHED, _UNREVISED]


def rights(tag: Tag) -> list[Json]:
    """That the revision's istiod may write the caBundle of the tag's webhooks."""
    meta = {"name": tag.called, "labels": tag.labels("istiod")}
    return [
        {
            "apiVersion": f"{RIGHTS}/v1",
            "kind": "ClusterRole",
            "metadata": meta,
            "rules": [
                {
                    "apiGroups": [ADMISSION],
                    "resources": ["mutatingwebhookconfigurations"],
                    "resourceNames": [tag.webhook_name or tag.called],
                    "verbs": ["patch"],
                }
            ],
        },
        {
            "apiVersion": f"{RIGHTS}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": meta,
            "roleRef": {"apiGroup": RIGHTS, "kind": "ClusterRole", "name": tag.called},
            "subjects": [{"kind": "ServiceAccount", "name": tag.account, "namespace": tag.root}],
        },
    ]


def validator(tag: Tag, found: Read | None) -> Json:
    """Who validates objects that name no revision: this one's istiod. ``found`` is who did, whose policy is kept.

    istiod makes the policy Fail when it can answer.
    """
    there = [each for each in (found or {}).get("webhooks") or () if each["name"].endswith(_VALIDATES)]
    hook = there[0] if there else _fresh()
    return {
        "apiVersion": f"{ADMISSION}/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": VALIDATOR, "labels": {**tag.labels("istiod"), "istio": "istiod"}},
        "webhooks": [{**hook, "clientConfig": _validating(tag.hook["clientConfig"])}],
    }


def _fresh() -> Json:
    everything = {"apiGroups": list(_VALIDATED), "apiVersions": ["*"], "resources": ["*"]}
    return {
        "name": _VALIDATES,
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "failurePolicy": "Ignore",
        "timeoutSeconds": 10,
        "rules": [{"operations": ["CREATE", "UPDATE"], **everything}],
    }


def _validating(config: Read) -> Json:
    """The same istiod, asked to validate."""
    if "url" in config:
        return {**config, "url": urlsplit(config["url"])._replace(path="/validate").geturl()}
    return {**config, "service": {**config["service"], "path": "/validate"}}


def deactivated(injector: Read) -> Json:
    """An injector that is never asked, as a merge patch: what it was is kept for whoever wants it back."""
    never = dict.fromkeys(("namespaceSelector", "objectSelector"), injection.DEACTIVATED)
    version = injector["metadata"].get("resourceVersion")
    return {
        "metadata": {"resourceVersion": version},
        "webhooks": [{**each, **never} for each in injector["webhooks"]],
    }


def laid_over(made: Read, found: Read) -> Json:
    """An object to put in the place of one that is there, whose other labels and annotations stay."""
    before, meta = found["metadata"], dict(made["metadata"])
    for name in ("labels", "annotations"):
        if either := {**(before.get(name) or {}), **(meta.get(name) or {})}:
            meta[name] = either
    return {**made, "metadata": {**meta, "resourceVersion": before["resourceVersion"]}}


def listed(configurations: list[Read], namespaces: list[Read]) -> list[Json]:
    """Tags and revisions with the namespaces that ask for them; a revision that has tags is listed by these."""
    found: dict[tuple[str, str], Json] = {}
    for each in configurations:
        labels = each["metadata"]["labels"]
        revision, tag = labels[LABEL_REVISION], labels.get(TAG, "")
        asking = [one for one in namespaces if injection.revision(one) == (tag or revision)]
        spaces = sorted(str(one["metadata"]["name"]) for one in asking)
        found[revision, tag] = {"tag": tag, "revision": revision, "namespaces": spaces}
    tagged = {revision for revision, tag in found if tag}
    return [found[key] for key in sorted(found) if key[1] or key[0] not in tagged]
