"""The mesh of a test's files with an echo in place of every app, as the local mesh can run it. Pure.

Every pod keeps its labels, annotations, service account and ports, so that all rules apply to it as they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias

import yaml

from crds import core, discovery, lines
from crds.key import ConfigKey
from istioctl.offline.world import Workload, World
from istioctl.testing import members
from wire import decimal, names

Document: TypeAlias = dict[str, Any]
OUTSIDE: Final = ("istioctl-test", "outside")
"""Namespace and name of the pod that is nobody's."""
_MADE_ANEW: Final = frozenset(
    {
        *("Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job", "CronJob", "Pod", "Node"),
        *("EndpointSlice", "Endpoints", "Service", "ServiceAccount"),
    }
)
_TEMPLATES: Final = "inject.istio.io/templates"
_INJECT: Final = "sidecar.istio.io/inject"
_OURS: Final = (names.LABEL_TLS_MODE, "pod-template-hash")
_ECHO: Final = "istioctl.testing.envoys.echo"


def documents(texts: Mapping[str, bytes], world: World, ports: Iterable[int], keys: str) -> list[Document]:
    """All objects of the staged mesh.

    Args:
        texts: the files of the mesh.
        world: what they give.
        ports: that requests go to, beside those that objects name.
        keys: a JSON key set that stands for those of every token issuer; "" leaves those of the files.
    """
    kept = list(_kept(texts, keys))
    if not any(one["kind"] == "ConfigMap" and one["metadata"]["name"] == "istio" for one in kept):
        kept.append(
            _logging(
                {
                    "kind": "ConfigMap",
                    "apiVersion": "v1",
                    "metadata": {"name": "istio", "namespace": names.ROOT_NAMESPACE},
                }
            )
        )
    known = {*ports, *_bound(kept)}
    pods = [_pod(one, world, known) for one in world.workloads()]
    accounts = {(pod["metadata"]["namespace"], pod["spec"]["serviceAccountName"]) for pod in pods}
    spaces = {one["metadata"]["name"] for one in kept if one["kind"] == "Namespace"}
    wanted = {pod["metadata"]["namespace"] for pod in pods} | {OUTSIDE[0]}
    return [
        *kept,
        *(_object("v1", "Namespace", name) for name in sorted(wanted - spaces)),
        *(_object("v1", "ServiceAccount", name, namespace) for namespace, name in sorted(accounts)),
        *_services(world),
        *pods,
        _outside(),
    ]


def _kept(texts: Mapping[str, bytes], keys: str) -> Iterator[Document]:
    """What the files say, but for what is made anew; of an object that stands twice, the first."""
    seen = set()
    for file in sorted(texts):
        for chunk in lines.split(file, texts[file].decode()):
            for _, one in lines.unroll(lines.load(file, chunk)):
                if not isinstance(one, dict) or one.get("kind") in _MADE_ANEW or "metadata" not in one:
                    continue
                meta = one["metadata"]
                key = (one["apiVersion"].partition("/")[0], one["kind"], meta.get("namespace"), meta.get("name"))
                if key not in seen:
                    seen.add(key)
                    yield _logging(_own_keys(one, keys))


def _logging(one: Document) -> Document:
    """The mesh's settings with Istio's access log, which tells the rule of each request."""
    if one["kind"] != "ConfigMap" or one["metadata"].get("name") != "istio":
        return one
    data = dict(one.get("data") or {})
    mesh = yaml.safe_load(data.get("mesh") or "") or {}
    mesh = {name: value for name, value in mesh.items() if not name.startswith("accessLog")}
    return {**one, "data": {**data, "mesh": yaml.safe_dump({**mesh, "accessLogFile": "/dev/stdout"})}}


def _own_keys(one: Document, keys: str) -> Document:
    if one["kind"] != "RequestAuthentication" or not keys:
        return one
    rules = [
        {**{name: value for name, value in rule.items() if name not in ("jwksUri", "jwks_uri")}, "jwks": keys}
        for rule in (one.get("spec") or {}).get("jwtRules") or ()
    ]
    return {**one, "spec": {**one["spec"], "jwtRules": rules}}


def _bound(kept: Iterable[Document]) -> Iterator[int]:
    """The ports behind Sidecars' own listeners."""
    for one in kept:
        for each in (one.get("spec") or {}).get("ingress") or () if one["kind"] == "Sidecar" else ():
            port = decimal.number(str(each.get("defaultEndpoint") or "").rpartition(":")[2])
            if port is not None:
                yield port


def _object(version: str, kind: str, name: str, namespace: str = "") -> Document:
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": name} | ({"namespace": namespace} if namespace else {}),
    }


def _services(world: World) -> Iterator[Document]:
    """Services without the addresses that were imagined for them."""
    for _, item in sorted(world.snapshot.of("", "Service").items()):
        one = item.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        spec = dict(one.get("spec") or {})
        if spec.get("clusterIP") != "None":
            spec.pop("clusterIP", None)
            spec.pop("clusterIPs", None)
        meta = {
            name: one["metadata"][name]
            for name in ("name", "namespace", "labels", "annotations")
            if name in one["metadata"]
        }
        yield {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec}


def _pod(one: Workload, world: World, more: Iterable[int]) -> Document:
    pod = world.snapshot.get(ConfigKey("", "Pod", one.pod.namespace, one.pod.name))
    annotations = dict(pod.metadata.annotations) if isinstance(pod, core.Pod) else {}
    labels = {name: value for name, value in one.pod.labels if name not in _OURS}
    labels[_INJECT] = "true" if one.proxied else "false"
    if one.router:
        annotations[_TEMPLATES] = "gateway"
        container: Document = {"name": "istio-proxy", "image": "auto"}
    else:
        ports = sorted({*more, *_ports(one, pod, world)})
        command = ["python", "-m", _ECHO, members.name_of(one), ",".join(map(str, ports))]
        container = {"name": "app", "image": "busybox", "command": command}
        container["ports"] = [{"containerPort": port} for port in ports]
    meta = {"name": one.pod.name, "namespace": one.pod.namespace, "labels": labels, "annotations": annotations}
    account = one.pod.identity.rpartition("/")[2] or "default"
    return {
        **_object("v1", "Pod", ""),
        "metadata": meta,
        "spec": {"serviceAccountName": account, "terminationGracePeriodSeconds": 1, "containers": [container]},
    }


def _ports(one: Workload, pod: object, world: World) -> Iterator[int]:
    """Those that the pod names, and those that Services find at it."""
    if isinstance(pod, core.Pod):
        yield from (each.container_port for container in pod.spec.containers for each in container.ports)
    for item in world.snapshot.of("discovery.k8s.io", "EndpointSlice").values():
        if isinstance(item, discovery.EndpointSlice) and any(one.address in each.addresses for each in item.endpoints):
            yield from (each.port for each in item.ports if each.port)


def _outside() -> Document:
    namespace, name = OUTSIDE
    container = {"name": "app", "image": "busybox", "command": ["sleep", "infinity"]}
    return {
        **_object("v1", "Pod", ""),
        "metadata": {"name": name, "namespace": namespace, "labels": {_INJECT: "false"}},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]},
    }


def text(found: Iterable[Document]) -> str:
    """The documents as one file."""
    return "\n---\n".join(json.dumps(one) for one in found) + "\n"
