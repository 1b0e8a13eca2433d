"""What an API server would refuse of the objects that this node acts on. Pure.

The node reads raw documents, so it must not take what has another form than it reads: one Deployment with
``replicas: two`` would stop the mesh for all. Models of ours (crds) judge the form, as they do for istiod; what they
leave out, since nothing of the mesh reads it, is tried here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from crds import diagnostic, parse
from crds.diagnostic import Code, Diagnostic, Severity
from istiod.watch import files
from node import objects, podspec, probes, replicas
from node.objects import Document, Raw

_FACTS: Final = podspec.Facts(address="", host_address="", node="")
_NEEDED: Final = {"containers": ("name",), "initContainers": ("name",), "volumes": ("name",)}
_NEEDED_IN_CONTAINERS: Final = {"env": ("name",), "volumeMounts": ("name", "mountPath"), "ports": ("containerPort",)}


def refusals(document: Document) -> list[Diagnostic]:
    """Why an object is not taken; [] where it is, or is none that the node acts on."""
    raw, key = document.raw, objects.key_of(document.raw)
    if not objects.is_for_node(key):
        return []
    if wrong := [each for each in findings(document) if each.severity is Severity.ERROR]:
        return wrong
    wrong = [diagnostic.error(Code.MISSING_FIELD, key, field, "is missing") for field in _missing(raw)]
    if str((raw.get("spec") or {}).get("clusterIP") or "").count(":"):
        wrong.append(diagnostic.error(Code.NOT_SUPPORTED, key, "spec.clusterIP", "a mesh on one machine has IPv4 only"))
    if not wrong and (reason := _odd(raw)):
        wrong = [diagnostic.error(Code.BAD_VALUE, key, "spec", reason)]
    return [each.at(document.at(each.field)) for each in wrong]


def findings(document: Document) -> list[Diagnostic]:
    """What is wrong with an object of any kind by itself, as istiod says it."""
    parsed = parse.parse(document.raw)
    more = files.CLOSED if parsed.stand_in is not None else ""
    told = (replace(d, message=d.message + more) if d.severity is Severity.ERROR else d for d in parsed.diagnostics)
    return [each.at(document.at(each.field)) for each in told]


def _missing(raw: Raw) -> Iterator[str]:
    """Fields without which an object means nothing."""
    spec = raw.get("spec") or {}
    if raw["kind"] == "Service":
        yield from _lacking(spec, "spec", {"ports": ("port",)})
    place, pod = _pod(raw)
    yield from _lacking(pod, place, _NEEDED)
    for kind in ("initContainers", "containers"):
        for number, container in enumerate(pod.get(kind) or ()):
            yield from _lacking(container, f"{place}.{kind}[{number}]", _NEEDED_IN_CONTAINERS)


def _lacking(parent: Mapping[str, Any], place: str, needed: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    for field, names in needed.items():
        for number, each in enumerate(parent.get(field) or ()):
            yield from (f"{place}.{field}[{number}].{name}" for name in names if not each.get(name))


def _pod(raw: Raw) -> tuple[str, Raw]:
    """The pod's spec in an object, and where it stands; {} in one that has none."""
    spec = raw.get("spec") or {}
    if raw["kind"] == "Deployment":
        return "spec.template.spec", (spec.get("template") or {}).get("spec") or {}
    return "spec", spec if raw["kind"] == "Pod" else {}


def _odd(raw: Raw) -> str:
    """Why what no model holds (volumes, capabilities, a strategy) cannot be read; "" where it can."""
    trial = _TRIALS.get(raw["kind"])
    if trial is None:
        return ""
    try:
        trial(raw)
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
        return f"holds something of another form than Kubernetes gives it: {error!r}"
    return ""


def _try_deployment(raw: Raw) -> None:
    replicas.strategy_of(raw)
    _try_pod(replicas.pod_of(raw, "trial"))


def _try_pod(raw: Raw) -> None:
    podspec.volumes(raw, _FACTS)
    spec = raw.get("spec") or {}
    for container in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ())):
        podspec.environment(raw, container, _FACTS)
        podspec.rights(raw, container)
        podspec.mounts(container)
        for name in ("startupProbe", "livenessProbe", "readinessProbe"):
            probes.probe_of(container.get(name), container.get("ports") or ())


_TRIALS: Final[Mapping[str, Callable[[Raw], None]]] = {"Deployment": _try_deployment, "Pod": _try_pod}
