"""What a report is made of: a path in the archive, and how that is got. Nothing is asked for here but the pods.

Each piece is got by itself, so that one that cannot be had hides no other.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from crds import registry
from istioctl import cluster
from istioctl.bugreport import redaction
from istioctl.bugreport.selection import Selection
from istioctl.bugreport.source import Source
from istioctl.errors import CommandError
from wire import names

_LOG_BYTES: Final = 10 * 1024 * 1024
_LOG_LINES: Final = 50_000
_ISTIOD: Final = "discovery"
_COMMAND_SECONDS: Final = 60.0
_ISTIO: Final = "istio.io"
_CORE, _APPS = "/api/v1", "/apis/apps/v1"
_OF_SYSTEM: Final = {
    **dict.fromkeys(("configmaps", "secrets", "serviceaccounts", "events"), _CORE),
    **dict.fromkeys(("daemonsets", "replicasets", "statefulsets"), _APPS),
    "horizontalpodautoscalers": "/apis/autoscaling/v2",
    "poddisruptionbudgets": "/apis/policy/v1",
}
"""Kinds of which the control plane's namespace matters."""
_OF_ALL: Final = {
    "pods": _CORE,
    "services": _CORE,
    "deployments": _APPS,
    "endpointslices": "/apis/discovery.k8s.io/v1",
}
_OF_CLUSTER: Final = {
    "nodes": _CORE,
    "namespaces": _CORE,
    "mutatingwebhookconfigurations": "/apis/admissionregistration.k8s.io/v1",
    "validatingwebhookconfigurations": "/apis/admissionregistration.k8s.io/v1",
}
_PAGES: Final = (
    *("adsz", "authorizationz", "cachez", "clusterz", "configz", "diagnosticsz", "endpointz", "inject", "instancesz"),
    *("mesh", "push_status", "registryz", "scopej", "syncz", "telemetryz", "watchz"),
)
_ENVOY: Final = {
    "config_dump.json": "/config_dump?include_eds",
    "clusters.json": "/clusters?format=json",
    "listeners.json": "/listeners?format=json",
    "server_info.json": "/server_info",
    "certs.json": "/certs",
    "stats.txt": "/stats",
}
_AGENT: Final = {"ndsz.json": "/debug/ndsz", "tasks.txt": "/debug/pprof/goroutine"}
COMMANDS: Final = {
    "analyze.txt": ("analyze", "-A", "--color=false"),
    "proxy-status.txt": ("proxy-status",),
    "version.txt": ("version",),
}
"""What else is asked, as a user would."""

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Piece:
    """A file of the archive."""

    path: str
    get: Callable[[], bytes]
    """Raises CommandError where it cannot be had."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the user asked for. ``seconds`` limits logs to the newest; 0: none. ``full`` leaves nothing out."""

    selection: Selection
    system: str = names.ROOT_NAMESPACE
    seconds: int = 0
    full: bool = False
    flags: Sequence[str] = field(default=())
    """Those by which commands reach the same cluster."""


class Report:
    """The pieces of one cluster."""

    def __init__(self, where: Source, wishes: Wishes) -> None:
        self._where = where
        self._wishes = wishes

    def pieces(self, pods: Sequence[Json]) -> Iterator[Piece]:
        """All of them; ``pods`` are those of the cluster."""
        yield from (Piece(f"cluster/{kind}.json", self._listed(kind, base)) for kind, base in _OF_CLUSTER.items())
        yield Piece("cluster/definitions.json", self._definitions)
        for kind, base in _OF_SYSTEM.items():
            place = f"{base}/namespaces/{self._wishes.system}"
            yield Piece(f"cluster/{self._wishes.system}/{kind}.json", self._listed(kind, place))
        yield from (Piece(f"cluster/{kind}.json", self._listed(kind, base)) for kind, base in _OF_ALL.items())
        for (group, _), info in sorted(registry.KINDS.items()):
            if group.endswith(_ISTIO):
                yield Piece(f"mesh/{info.plural}.json", self._listed(info.plural, f"/apis/{group}/{info.versions[0]}"))
        for name, words in COMMANDS.items():
            yield Piece(name, partial(self._told, words))
        for pod in pods:
            yield from self._of(pod)

    def pods(self) -> list[Json]:
        """All pods of the cluster.

        Raises:
            CommandError: they may not be listed.
        """
        return [*self._where.listed(f"{_CORE}/pods", "pods")]

    def _of(self, pod: Json) -> Iterator[Piece]:
        metadata, containers = pod["metadata"], dict(_containers(pod))
        known = cluster.Pod(name=metadata["name"], namespace=metadata["namespace"])
        labels = metadata.get("labels") or {}
        if labels.get("app") == "istiod" and known.namespace == self._wishes.system:
            yield from self._of_istiod(known, pod, containers)
        elif cluster.PROXY in containers and self._wishes.selection.takes(pod, cluster.PROXY):
            folder = f"proxies/{known.namespace}/{known.name}"
            yield from self._logs(folder, known, cluster.PROXY, started=containers[cluster.PROXY])
            if pod.get("status", {}).get("phase") == "Running":
                yield from self._of_proxy(folder, known)

    def _of_istiod(self, known: cluster.Pod, pod: Json, containers: Mapping[str, int]) -> Iterator[Piece]:
        folder = f"istiod/{known.name}"
        yield from self._logs(folder, known, _ISTIOD, started=containers.get(_ISTIOD, 0))
        if pod.get("status", {}).get("phase") != "Running":
            return
        page = self._where.page(known, names.DEBUG_PORT)
        paths = {f"{name}.json": f"/debug/{name}" for name in _PAGES} | {"metrics.txt": "/metrics"}
        for name, path in paths.items():
            yield Piece(f"{folder}/{name}", self._text(partial(page.ask, path)))

    def _of_proxy(self, folder: str, known: cluster.Pod) -> Iterator[Piece]:
        ask = ("pilot-agent", "request")
        agents = (*ask, "--debug-port", str(names.STATUS_PORT))
        commands = {
            **{name: (*ask, "GET", path) for name, path in _ENVOY.items()},
            **{name: (*agents, "GET", path) for name, path in _AGENT.items()},
        }
        for name, words in commands.items():
            yield Piece(f"{folder}/{name}", self._text(partial(self._where.run, known, words)))

    def _logs(self, folder: str, known: cluster.Pod, container: str, *, started: int) -> Iterator[Piece]:
        """The container's, and that of the one before it where it was started anew."""
        for name, before in (("log.txt", False), *((("previous.txt", True),) if started else ())):
            yield Piece(f"{folder}/{name}", self._text(self._log(known, container, before=before)))

    def _log(self, known: cluster.Pod, container: str, *, before: bool) -> Callable[[], bytes]:
        query = [("container", container), ("timestamps", "true"), ("limitBytes", str(_LOG_BYTES))]
        query += [("tailLines", str(_LOG_LINES))]
        query += [("sinceSeconds", str(self._wishes.seconds))] if self._wishes.seconds else []
        query += [("previous", "true")] if before else []
        return partial(self._where.log, known, query)

    def _text(self, get: Callable[[], bytes]) -> Callable[[], bytes]:
        return get if self._wishes.full else lambda: redaction.text(get())

    def _listed(self, kind: str, base: str) -> Callable[[], bytes]:
        def get() -> bytes:
            found = [*self._where.listed(f"{base}/{kind}", kind)]
            chosen = [each for each in found if self._wanted(kind, each["metadata"])]
            if self._wishes.full:
                return _written(chosen)
            named = [{**each, "kind": each.get("kind") or _kind(kind)} for each in chosen]
            return redaction.text(_written([redaction.item(each) for each in named]))

        return get

    def _wanted(self, kind: str, metadata: Json) -> bool:
        """The control plane's own, what has no namespace, and what is not excluded."""
        namespace = metadata["name"] if kind == "namespaces" else metadata.get("namespace", "")
        return namespace in ("", self._wishes.system) or self._wishes.selection.namespace(namespace)

    def _definitions(self) -> bytes:
        """Which kinds the API server knows, without their schemas, which are long and no secret of the cluster's."""
        path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        found = [each for each in self._where.listed(path, "definitions") if each["spec"]["group"].endswith(".io")]
        return _written(
            [
                {
                    "name": each["metadata"]["name"],
                    "versions": [version["name"] for version in each["spec"]["versions"] if version.get("served")],
                    "labels": each["metadata"].get("labels") or {},
                }
                for each in found
            ]
        )

    def _told(self, words: Sequence[str]) -> bytes:
        """What another command says, in a process of its own: it prints, and may take its time."""
        command = [sys.executable, "-m", "istioctl", *words, *self._wishes.flags]
        try:
            done = subprocess.run(  # noqa: S603 (this program itself, with the user's own flags)
                command, capture_output=True, timeout=_COMMAND_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CommandError(f"istioctl {words[0]}: {error}") from error
        said = done.stdout + done.stderr + f"\nended with {done.returncode}\n".encode()
        return said if self._wishes.full else redaction.text(said)


def _containers(pod: Json) -> Iterator[tuple[str, int]]:
    """Names of containers, native sidecars among them, and how often each was started anew."""
    status = pod.get("status") or {}
    states = [*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())]
    counts = {each["name"]: int(each.get("restartCount", 0)) for each in states}
    spec = pod.get("spec") or {}
    for each in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
        yield each["name"], counts.get(each["name"], 0)


def _kind(plural: str) -> str:
    """A list does not repeat the kind of its items; the one that matters is a Secret's."""
    return "Secret" if plural == "secrets" else ""


def _written(found: Sequence[Json]) -> bytes:
    return json.dumps(found, indent=1, ensure_ascii=False).encode() + b"\n"
