"""From a pod's YAML to what has to be started: command, environment, user, rights, mounts, files. Pure.

Rules are those of the Kubernetes API (core/v1 Container, EnvVarSource, VolumeSource), as far as istio-injected pods
and Istio's samples use them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from node.objects import Raw, annotations_of, labels_of

_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)")
_KEYED = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")
_SUFFIX = {"": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30}

CAPABILITIES = {
    "CHOWN": 0, "DAC_OVERRIDE": 1, "DAC_READ_SEARCH": 2, "FOWNER": 3, "FSETID": 4, "KILL": 5, "SETGID": 6,
    "SETUID": 7, "SETPCAP": 8, "LINUX_IMMUTABLE": 9, "NET_BIND_SERVICE": 10, "NET_BROADCAST": 11, "NET_ADMIN": 12,
    "NET_RAW": 13, "IPC_LOCK": 14, "IPC_OWNER": 15, "SYS_MODULE": 16, "SYS_RAWIO": 17, "SYS_CHROOT": 18,
    "SYS_PTRACE": 19, "SYS_PACCT": 20, "SYS_ADMIN": 21, "SYS_BOOT": 22, "SYS_NICE": 23, "SYS_RESOURCE": 24,
    "SYS_TIME": 25, "SYS_TTY_CONFIG": 26, "MKNOD": 27, "LEASE": 28, "AUDIT_WRITE": 29, "AUDIT_CONTROL": 30,
    "SETFCAP": 31, "MAC_OVERRIDE": 32, "MAC_ADMIN": 33, "SYSLOG": 34, "WAKE_ALARM": 35, "BLOCK_SUSPEND": 36,
    "AUDIT_READ": 37, "PERFMON": 38, "BPF": 39, "CHECKPOINT_RESTORE": 40,
}  # fmt: skip
# What container runtimes leave to root by default (containerd, Docker).
DEFAULT_CAPABILITIES = frozenset(
    {"CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP"}
    | {"NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a pod only once it is placed; what its environment and files may ask for."""

    address: str
    host_address: str
    node: str
    cpus: int = 1
    memory: int = 1 << 30
    config_maps: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    secrets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Data by object name, of the pod's namespace."""
    token: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """Who a container runs as and what it may do."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    capabilities: tuple[int, ...] = ()
    no_new_privileges: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A volume (by name, and a path inside it) at a path of the container."""

    volume: str
    target: str
    sub_path: str = ""
    read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """What a volume holds: files by relative path, or a folder of the host."""

    name: str
    files: Mapping[str, str] = field(default_factory=dict)
    host_path: str = ""
    problem: str = ""


def quantity(text: object) -> float:
    """The number that a Kubernetes quantity means ("100m", "1Gi")."""
    found = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", str(text).strip())
    if not found or found[2] not in _SUFFIX:
        return 0.0
    return float(found[1]) * _SUFFIX[found[2]]


def field_of(pod: Raw, path: str, facts: Facts) -> str:
    """A pod's field as the downward API gives it; "" for one that is not offered."""
    meta, spec = pod.get("metadata") or {}, pod.get("spec") or {}
    if found := _KEYED.fullmatch(path):
        return (labels_of(pod) if found[1] == "labels" else annotations_of(pod)).get(found[2], "")
    simple = {
        "metadata.name": meta.get("name"),
        "metadata.namespace": meta.get("namespace"),
        "metadata.uid": meta.get("uid"),
        "spec.nodeName": facts.node,
        "spec.serviceAccountName": spec.get("serviceAccountName") or "default",
        "status.podIP": facts.address,
        "status.podIPs": facts.address,
        "status.hostIP": facts.host_address,
        "metadata.labels": _lines(labels_of(pod)),
        "metadata.annotations": _lines(annotations_of(pod)),
    }
    return str(simple.get(path) or "")


def _lines(pairs: Mapping[str, str]) -> str:
    """Labels or annotations as the downward API writes them into a file."""
    return "".join(f"{key}={json.dumps(value, ensure_ascii=False)}\n" for key, value in sorted(pairs.items()))


def resource_of(container: Raw, reference: Mapping[str, Any], facts: Facts) -> str:
    """A container's resource as the downward API gives it, rounded up; without a limit, what the machine has."""
    wanted = str(reference.get("resource") or "")
    kind, _, name = wanted.partition(".")
    value = quantity(((container.get("resources") or {}).get(kind) or {}).get(name) or 0)
    if not value and kind == "limits":
        value = facts.cpus if name == "cpu" else facts.memory
    return str(math.ceil(value / (quantity(reference.get("divisor") or 1) or 1)))


def expanded(text: str, known: Mapping[str, str]) -> str:
    """``$(NAME)`` replaced by its value; unknown names stay, ``$$`` is a dollar sign."""
    return _REFERENCE.sub(lambda m: "$" if m[0] == "$$" else known.get(m[1], m[0]), text)


def _value_from(source: Mapping[str, Any], pod: Raw, container: Raw, facts: Facts) -> str | None:
    """The value of an EnvVarSource; None leaves the variable out."""
    if reference := source.get("fieldRef"):
        return field_of(pod, str(reference.get("fieldPath")), facts)
    if reference := source.get("resourceFieldRef"):
        return resource_of(container, reference, facts)
    for kind, objects in (("configMapKeyRef", facts.config_maps), ("secretKeyRef", facts.secrets)):
        if reference := source.get(kind):
            return objects.get(str(reference.get("name")), {}).get(str(reference.get("key")))
    return None


def _env_from(container: Raw, facts: Facts) -> dict[str, str]:
    """Variables of whole ConfigMaps and Secrets."""
    out: dict[str, str] = {}
    for each in container.get("envFrom") or ():
        for kind, objects in (("configMapRef", facts.config_maps), ("secretRef", facts.secrets)):
            data = objects.get(str((each.get(kind) or {}).get("name")), {})
            out |= {str(each.get("prefix") or "") + key: value for key, value in data.items()}
    return out


def environment(pod: Raw, container: Raw, facts: Facts) -> dict[str, str]:
    """A container's environment, in the order of its YAML, so that later variables may refer to earlier ones."""
    env = _env_from(container, facts)
    for each in container.get("env") or ():
        name = str(each["name"])
        if "valueFrom" in each:
            value = _value_from(each["valueFrom"] or {}, pod, container, facts)
            if value is not None:
                env[name] = value
        else:
            env[name] = expanded(str(each.get("value") or ""), env)
    return env


def rights(pod: Raw, container: Raw) -> Rights:
    """User, groups and capabilities from the security contexts of pod and container."""
    shared = (pod.get("spec") or {}).get("securityContext") or {}
    own = container.get("securityContext") or {}
    uid = int(own.get("runAsUser", shared.get("runAsUser", 0)) or 0)
    gid = int(own.get("runAsGroup", shared.get("runAsGroup", 0)) or 0)
    groups = [int(g) for g in shared.get("supplementalGroups") or ()]
    if shared.get("fsGroup") is not None:
        groups.append(int(shared["fsGroup"]))
    return Rights(
        uid=uid,
        gid=gid,
        groups=tuple(sorted({gid, *groups})),
        capabilities=_capabilities(own),
        no_new_privileges=own.get("allowPrivilegeEscalation") is False,
    )


def _names(listed: Iterable[Any] | None) -> set[str]:
    """Capability names without their prefix."""
    return {str(name).upper().removeprefix("CAP_") for name in listed or ()}


def _capabilities(context: Raw) -> tuple[int, ...]:
    """The capabilities that root may have in this container, by number."""
    if context.get("privileged"):
        return tuple(sorted(CAPABILITIES.values()))
    asked = context.get("capabilities") or {}
    add, drop = _names(asked.get("add")), _names(asked.get("drop"))
    kept = set() if "ALL" in drop else set(DEFAULT_CAPABILITIES) - drop
    kept |= set(CAPABILITIES) if "ALL" in add else add & set(CAPABILITIES)
    return tuple(sorted(CAPABILITIES[name] for name in kept))


def mounts(container: Raw) -> tuple[Mount, ...]:
    """A container's mounts, outer paths first."""
    out = [
        Mount(
            volume=str(each["name"]),
            target=str(each["mountPath"]),
            sub_path=str(each.get("subPath") or ""),
            read_only=bool(each.get("readOnly")),
        )
        for each in container.get("volumeMounts") or ()
    ]
    return tuple(sorted(out, key=lambda m: m.target))


def _data(source: Mapping[str, Any], kind: str, objects: Mapping[str, Mapping[str, str]]) -> tuple[dict[str, str], str]:
    """(files, problem) of a ConfigMap or Secret as a volume."""
    name = str(source.get("name") or source.get("secretName") or "")
    data = objects.get(name)
    if data is None:
        return {}, "" if source.get("optional") else f'{kind} "{name}" not found'
    if items := source.get("items"):
        return {str(i["path"]): data[i["key"]] for i in items if i["key"] in data}, ""
    return dict(data), ""


def _downward(source: Mapping[str, Any], pod: Raw, facts: Facts) -> dict[str, str]:
    """Files of the downward API. Resources of named containers are looked up in the pod."""
    out = {}
    containers = {c.get("name"): c for c in (pod.get("spec") or {}).get("containers") or ()}
    for item in source.get("items") or ():
        if reference := item.get("fieldRef"):
            out[str(item["path"])] = field_of(pod, str(reference.get("fieldPath")), facts)
        elif reference := item.get("resourceFieldRef"):
            container = containers.get(reference.get("containerName"), {})
            out[str(item["path"])] = resource_of(container, reference, facts)
    return out


def _source(source: Mapping[str, Any], pod: Raw, facts: Facts) -> tuple[dict[str, str], str]:
    """(files, problem) of one source of a volume."""
    if each := source.get("configMap"):
        return _data(each, "configmap", facts.config_maps)
    if each := source.get("secret"):
        return _data(each, "secret", facts.secrets)
    if each := source.get("downwardAPI"):
        return _downward(each, pod, facts), ""
    if each := source.get("serviceAccountToken"):
        return {str(each.get("path") or "token"): facts.token}, ""
    return {}, ""


def volumes(pod: Raw, facts: Facts) -> dict[str, Volume]:
    """The pod's volumes by name. A kind that is not known here is an empty folder."""
    out = {}
    for each in (pod.get("spec") or {}).get("volumes") or ():
        name = str(each["name"])
        files: dict[str, str] = {}
        problem = ""
        for source in (each.get("projected") or {}).get("sources") or (each,):
            more, wrong = _source(source, pod, facts)
            files |= more
            problem = problem or wrong
        host_path = str((each.get("hostPath") or {}).get("path") or "")
        out[name] = Volume(name=name, files=files, host_path=host_path, problem=problem)
    return out
