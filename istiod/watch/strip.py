"""What of an object is kept, as it arrives: what something reads, and nothing else.

A pod of an API server has 5 to 20 KB, of which the mesh looks at half a kilobyte; and what is not kept makes no change:
heartbeats, conditions and annotations of other programs end here. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from crds import proxy_annotation
from istiod.config.kubernetes import Raw
from istiod.status.observed import records

_Json = dict[str, Any]
_METADATA: Final = (
    "name",
    "namespace",
    "labels",
    "annotations",
    "uid",
    "generation",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
)
_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
_POD_SPEC: Final = ("nodeName", "serviceAccountName", "hostNetwork")
_POD_STATUS: Final = ("phase", "podIP", "podIPs")
_SECRET_KEYS: Final = ("tls.crt", "tls.key", "ca.crt", "ca.crl", "cert", "key", "cacert", "crl")
_OWNER: Final = ("apiVersion", "kind", "name", "uid", "controller")


def strip(kind: str, raw: Raw) -> Raw:
    """The part of an object of this kind that is kept. What is malformed stays as it is, for the parser to report."""
    try:
        return _BY_KIND.get(kind, _configuration)(raw)
    except (AttributeError, TypeError):
        return raw


def _some(source: Mapping[str, Any], names: Iterable[str]) -> _Json:
    return {name: source[name] for name in names if name in source}


def _with(raw: Raw, *names: str) -> _Json:
    """An object's head, and these of its fields."""
    kept = _some(raw, ("apiVersion", "kind", *names))
    metadata = _some(raw.get("metadata") or {}, _METADATA)
    if _APPLIED in (annotations := metadata.get("annotations") or {}):
        metadata["annotations"] = {name: text for name, text in annotations.items() if name != _APPLIED}
    kept["metadata"] = metadata
    return kept


def _configuration(raw: Raw) -> Raw:
    """Istio's kinds: everything but status, which we write ourselves."""
    return _with(raw, *(name for name in raw if name not in ("metadata", "status")))


def _service_entry(raw: Raw) -> Raw:
    kept = _with(raw, "spec")
    if addresses := records(raw.get("status"), "addresses"):
        kept["status"] = {"addresses": addresses}
    return kept


def _workload_entry(raw: Raw) -> Raw:
    kept = _with(raw, "spec")
    conditions = records(raw.get("status"), "conditions")
    if health := [_some(one, ("type", "status")) for one in conditions if one.get("type") == "Healthy"]:
        kept["status"] = {"conditions": health}
    return kept


def _pod(raw: Raw) -> Raw:
    kept = _with(raw)
    spec, status, metadata = raw.get("spec") or {}, raw.get("status") or {}, raw.get("metadata") or {}
    if said := _some(kept["metadata"].pop("annotations", None) or {}, (proxy_annotation.NAME,)):
        kept["metadata"]["annotations"] = said
    if owners := [_some(owner, _OWNER) for owner in metadata.get("ownerReferences") or () if owner.get("controller")]:
        kept["metadata"]["ownerReferences"] = owners
    if named := metadata.get("generateName"):
        kept["metadata"]["generateName"] = named
    ports = [_some(one, ("name", "ports")) for one in spec.get("containers") or () if one.get("ports")]
    ready = [_some(one, ("type", "status")) for one in status.get("conditions") or () if one.get("type") == "Ready"]
    kept["spec"] = _some(spec, _POD_SPEC) | ({"containers": ports} if ports else {})
    kept["status"] = _some(status, _POD_STATUS) | ({"conditions": ready} if ready else {})
    return kept


def _slice(raw: Raw) -> Raw:
    """Without annotations: the controller writes the time of each change into one of them."""
    kept = _with(raw, "addressType", "ports")
    kept["metadata"].pop("annotations", None)
    kept["endpoints"] = [_endpoint(one) for one in raw.get("endpoints") or ()]
    return kept


def _endpoint(one: Mapping[str, Any]) -> _Json:
    kept = _some(one, ("addresses", "conditions", "hostname", "nodeName", "zone", "deprecatedTopology"))
    if target := one.get("targetRef"):
        kept["targetRef"] = _some(target, ("kind", "namespace", "name"))
    return kept


def _service(raw: Raw) -> Raw:
    kept = _with(raw, "spec")
    if balancer := (raw.get("status") or {}).get("loadBalancer"):
        kept["status"] = {"loadBalancer": balancer}
    return kept


def _node(raw: Raw) -> Raw:
    kept = _with(raw)
    kept["metadata"].pop("annotations", None)
    status = raw.get("status") or {}
    kept["status"] = _some(status, ("addresses",))
    if info := status.get("nodeInfo"):
        kept["status"]["nodeInfo"] = _some(info, ("kubeletVersion",))
    return kept


def _namespace(raw: Raw) -> Raw:
    return _with(raw)


def _secret(raw: Raw) -> Raw:
    kept = _with(raw, "type")
    kept["metadata"].pop("annotations", None)
    kept["data"] = _some(raw.get("data") or {}, _SECRET_KEYS)
    return kept


def _config_map(raw: Raw) -> Raw:
    return _with(raw, "data")


_BY_KIND: Final[Mapping[str, Callable[[Raw], Raw]]] = {
    "Pod": _pod,
    "EndpointSlice": _slice,
    "Service": _service,
    "Node": _node,
    "Namespace": _namespace,
    "Secret": _secret,
    "ConfigMap": _config_map,
    "ServiceEntry": _service_entry,
    "WorkloadEntry": _workload_entry,
}
