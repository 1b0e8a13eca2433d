"""The answer to a review of a pod: what is injected, or why the pod is refused (features A1, S22). Pure.

Which pods are asked about at all is decided by the selectors of the webhook's configuration, by the labels that the
namespace has at that moment; here only the policy inside is looked at, so that a label just set counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from crds.diagnostic import Diagnostic, Severity
from webhook import decision, inject
from webhook.review import Answer, Review
from webhook.settings import InjectionConfig

_SLASH: Final = "--slash--"
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MOST_REASONS: Final = 5
_BAD_REQUEST: Final = 400


def answer(review: Review, config: InjectionConfig, annotations: Mapping[str, str] | None = None) -> Answer:
    """The patch for a pod under admission.

    Args:
        review: what the API server asks; anything but the creation of a pod passes untouched.
        config: the injector's settings, with those of the path (``with_path``).
        annotations: those of the pod's namespace.
    """
    if review.operation != "CREATE" or (review.group, review.kind) != ("", "Pod"):
        return Answer()
    metadata = decision.part(review.item, "metadata")
    namespace = review.namespace or str(metadata.get("namespace") or "")
    needed = decision.required(review.item, config.policy, namespace)
    if not needed.inject:
        return Answer()
    # Who manages which field is long, and nothing that injection reads or may change.
    pod = {**review.item, "metadata": {key: value for key, value in metadata.items() if key != "managedFields"}}
    made = inject.render(pod, config, namespace, answer=needed, of_namespace=annotations)
    if made.refused:
        reason = f"the pod cannot be injected: {reasons(made.diagnostics)}"
        return Answer(allowed=False, code=_BAD_REQUEST, reason=reason)
    return Answer(patch=made.patch, warnings=warnings(made.diagnostics))


def with_path(config: InjectionConfig, path: str) -> InjectionConfig:
    """The settings changed by the rest of the webhook's path, such as ``cluster/east/net/blue``.

    Names other than cluster and net are variables of the proxy; a slash in a value is written ``--slash--``. What is no
    name, and a name without value, is left out, as Istio does.
    """
    parts = path.strip("/").split("/")
    pairs = dict(zip(parts[::2], parts[1::2], strict=False))
    given = {name: value.replace(_SLASH, "/") for name, value in pairs.items() if _VARIABLE.fullmatch(name)}
    cluster, network = given.pop("cluster", ""), given.pop("net", "")
    environment = {name.upper(): value for name, value in given.items()}
    return replace(
        config,
        cluster_id=cluster or config.cluster_id,
        network=network or config.network,
        environment={**config.environment, **environment},
    )


def reasons(found: Iterable[Diagnostic]) -> str:
    """The errors among findings in one line for people."""
    errors = [said(each) for each in found if each.severity is Severity.ERROR]
    more = f"; and {len(errors) - _MOST_REASONS} more" if len(errors) > _MOST_REASONS else ""
    return "; ".join(errors[:_MOST_REASONS]) + more


def warnings(found: Iterable[Diagnostic]) -> tuple[str, ...]:
    """The warnings among findings."""
    return tuple(said(each) for each in found if each.severity is Severity.WARNING)


def said(finding: Diagnostic) -> str:
    """A finding without the object's name: whoever reads it has just sent the object."""
    where = f"{finding.field}: " if finding.field else ""
    return f"{where}{finding.message} [{finding.code.value}]"
