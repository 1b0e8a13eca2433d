"""``istioctl x check-inject`` and ``x injector list``: which webhooks inject what, in a cluster (row U2).

What labels and selectors mean is ``views.injection``'s.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any, Final

from istioctl import options, output
from istioctl.errors import CommandError
from istioctl.views import injection
from wire.names import LABEL_REVISION

_NAMESPACES: Final = "/api/v1/namespaces"
_USAGE: Final = "check-inject requires only [<resource-type>/]<resource-name>[.<namespace>], or specify labels flag"
_TIGHT: Final = 1
"""Blanks between columns where Istio's command has one."""
Json = Mapping[str, Any]


def register(commands: Any) -> None:
    """Add both commands below ``experimental``."""
    parser = commands.add_parser(
        "check-inject",
        parents=[options.shared()],
        help="whether webhooks inject a pod, and why",
        description="Whether the webhooks of the cluster inject a pod, or would inject one with such labels, and why.",
        allow_abbrev=False,
    )
    parser.add_argument("pod", nargs="?", default="", metavar="[TYPE/]NAME[.NAMESPACE]")
    parser.add_argument("-l", "--labels", default="", metavar="KEY=VALUE,...", help="of a pod that does not exist yet")
    parser.add_argument("-r", "--revision", default="", help="only webhooks of this revision")
    parser.set_defaults(run=_check)
    listed = commands.add_parser("injector", help="injectors and what they inject", allow_abbrev=False)
    each = listed.add_subparsers(required=True, metavar="COMMAND").add_parser(
        "list",
        parents=[options.shared()],
        help="namespaces with their revisions, and webhooks with their namespaces",
        allow_abbrev=False,
    )
    each.set_defaults(run=_list)


def _check(given: argparse.Namespace) -> int:
    if not (given.pod or given.labels):
        raise CommandError(_USAGE)
    where = options.cluster(given)
    namespace, pod = _pod(where, given)
    space = where.read(f"{_NAMESPACES}/{namespace}")
    if space is None:
        raise CommandError(f'namespace "{namespace}" not found')
    query = [("labelSelector", f"{LABEL_REVISION}={given.revision}")] if given.revision else []
    hooks = where.listed(injection.WEBHOOKS, "mutating webhooks", query)
    found = injection.verdicts(hooks, space["metadata"].get("labels") or {}, pod, namespace)
    if not found:
        output.say("ERROR: no Istio injection hooks present.")
        return 0
    rows = [each.row() for each in found]
    output.say(output.table(("WEBHOOK", "REVISION", "INJECTED", "REASON"), rows, colour=output.is_terminal()))
    if sum(each.injected for each in found) > 1:
        output.say("ERROR: multiple webhooks will inject, which can lead to errors")
    return 0


def _pod(where: Any, given: argparse.Namespace) -> tuple[str, Json]:
    """The namespace, and the pod: one of the cluster, or one that has just labels.

    Raises:
        CommandError: there is no such pod, or the labels are none.
    """
    if not given.pod:
        return where.namespace, {"metadata": {"labels": _labels(given.labels)}}
    found = where.pods(given.pod)[0]
    pod: Json | None = where.read(f"{_NAMESPACES}/{found.namespace}/pods/{found.name}")
    if pod is None:
        raise CommandError(f'pod "{found.name}" not found in namespace "{found.namespace}"')
    return found.namespace, pod


def _labels(text: str) -> dict[str, str]:
    pairs = [each.strip().partition("=") for each in text.split(",")]
    if not all(key and equals for key, equals, _ in pairs):
        raise CommandError(f'--labels: "{text}" is no list of labels such as app=web,version=v1')
    return {key: value.removeprefix("=") for key, _, value in pairs}


def _list(given: argparse.Namespace) -> int:
    where = options.cluster(given)
    spaces = injection.namespaces(where.listed(_NAMESPACES, "namespaces"), given.istioNamespace, given.namespace)
    hooks = injection.injectors(where.listed(injection.WEBHOOKS, "mutating webhooks"))
    pods: dict[str, list[Json]] = {}
    for pod in where.listed("/api/v1/pods", "pods"):
        pods.setdefault(pod["metadata"]["namespace"], []).append(pod)
    rows = list(injection.counted(spaces, hooks, pods))
    header = ("NAMESPACE", "ISTIO-REVISION", "POD-REVISIONS")
    output.say(output.table(header, rows, _TIGHT) if rows else "No Istio injected namespaces present.")
    output.say("\n")
    rows = list(injection.hooked(spaces, hooks, _images(where)))
    header_too = ("NAMESPACES", "INJECTOR-HOOK", "ISTIO-REVISION", "SIDECAR-IMAGE")
    output.say(output.table(header_too, rows, _TIGHT) if rows else "No Istio injection hooks present.")
    return 0


def _images(where: Any) -> dict[str, str]:
    """The sidecar's image by revision, as the injectors' ConfigMaps have it."""
    from webhook import values  # noqa: PLC0415 (it imports the chart's values, which no other command here needs)

    found = {}
    for each in where.listed("/api/v1/configmaps", "ConfigMaps", [("labelSelector", LABEL_REVISION)]):
        data = each.get("data") or {}
        if "values" in data:
            texts = values.Texts(values=data["values"], config=data.get("config", ""), mesh="")
            if (config := values.from_values(texts).config) is not None:
                found[injection.revision(each)] = config.image
    return found
