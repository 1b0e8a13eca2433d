"""The node that Envoy reports: id, cluster and metadata (features row C2).

Sources, as in Istio: ISTIO_META_* (strings), ISTIO_METAJSON_* (objects; their members are metadata too), the downward
API's labels and annotations, POD_NAME, POD_NAMESPACE, SERVICE_ACCOUNT, and ProxyConfig.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from agent.bootstrap.inputs import InputError, Inputs
from wire import names

_META: Final = "ISTIO_META_"
_META_JSON: Final = "ISTIO_METAJSON_"
_LOCALITY_LABEL: Final = "istio-locality"
_ON: Final = frozenset(("1", "t", "true"))
_NAMES: Final = {"POD_NAME": "NAME", "POD_NAMESPACE": "NAMESPACE", "SERVICE_ACCOUNT": "SERVICE_ACCOUNT"}


def node_id(inputs: Inputs) -> str:
    """``TYPE~IP~POD.NAMESPACE~DOMAIN`` (wire.node parses it)."""
    if inputs.node_id:
        return inputs.node_id
    name = inputs.environment.get("POD_NAME") or "localhost"
    namespace = inputs.environment.get("POD_NAMESPACE") or "default"
    domain = inputs.domain or f"{namespace}.svc.{names.DEFAULT_DNS_DOMAIN}"
    return f"{inputs.kind}~{inputs.addresses[0]}~{name}.{namespace}~{domain}"


def metadata(inputs: Inputs) -> dict[str, Any]:
    """The node's metadata, keys sorted.

    Raises:
        InputError: an ISTIO_METAJSON_ variable is no JSON object.
    """
    objects = _objects(inputs.environment)
    static_labels = {key: str(value) for key, value in objects.get("LABELS", {}).items()}
    facts: dict[str, Any] = {}
    for members in objects.values():
        facts |= members
    facts |= {key.removeprefix(_META): value for key, value in inputs.environment.items() if key.startswith(_META)}
    facts.setdefault("ISTIO_VERSION", inputs.version)
    facts |= {
        "PROXY_CONFIG": dict(inputs.config),
        "INSTANCE_IPS": ",".join(dict.fromkeys(inputs.addresses)),
        "ENVOY_STATUS_PORT": inputs.port("ENVOY_STATUS_PORT", names.READINESS_PORT),
        "ENVOY_PROMETHEUS_PORT": inputs.port("ENVOY_PROMETHEUS_PORT", names.PROMETHEUS_PORT),
        "METADATA_DISCOVERY": "false",
        "WORKLOAD_IDENTITY_SOCKET_FILE": inputs.sds_socket.rpartition("/")[2],
        "PILOT_SAN": [inputs.istiod_san],
        "OUTLIER_LOG_PATH": inputs.outlier_log_path,
        "LABELS": _labels({**static_labels, **inputs.labels}),
        "STATIC_LABELS": _labels(static_labels),
        "ANNOTATIONS": {**objects.get("ANNOTATIONS", {}), **inputs.annotations},
    }
    facts |= {key: inputs.environment.get(variable, "") for variable, key in _NAMES.items()}
    facts[names.BOOTSTRAP_XDS_AGENT] = "true" if asks_for_patches(inputs) else ""
    facts[names.METADATA_CREDENTIAL] = "true" if inputs.credential_socket else ""
    return {key: facts[key] for key in sorted(facts) if facts[key] not in ("", {}, None)}


def asks_for_patches(inputs: Inputs) -> bool:
    """Whether istiod is asked for patches of the bootstrap before Envoy starts."""
    return inputs.environment.get(names.BOOTSTRAP_XDS_AGENT, "").lower() in _ON


def annotation(facts: Mapping[str, Any], name: str) -> str:
    """A pod annotation's value, or empty."""
    return str(facts.get("ANNOTATIONS", {}).get(name, ""))


def locality(facts: Mapping[str, Any]) -> dict[str, str]:
    """Envoy's Locality from the label ``istio-locality`` (REGION/ZONE/SUBZONE); empty if there is none.

    A Node's own labels are known only to the control plane, which places endpoints and proxies by them.
    """
    text = str(facts.get("LABELS", {}).get(_LOCALITY_LABEL, ""))
    parts = zip(("region", "zone", "sub_zone"), text.split("/"), strict=False)
    return {key: value for key, value in parts if value}


def cluster(config: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """``node.cluster``: ProxyConfig.serviceCluster if the user set one, else APP.NAMESPACE, as Istio names it.

    ``tracingServiceName`` CANONICAL_NAME_ONLY and CANONICAL_NAME_AND_NAMESPACE take the canonical name instead.
    """
    namespace = str(facts.get("NAMESPACE", ""))
    labels = facts.get("LABELS", {})
    canonical = labels.get(names.LABEL_CANONICAL_NAME) or facts.get("WORKLOAD_NAME") or ""
    source = config.get("tracingServiceName")
    if canonical and source == "CANONICAL_NAME_ONLY":
        return str(canonical)
    if canonical and source == "CANONICAL_NAME_AND_NAMESPACE":
        return f"{canonical}.{namespace}"
    given = config.get("serviceCluster", "")
    if given not in ("", "istio-proxy"):
        return str(given)
    name = labels.get("app") or facts.get("WORKLOAD_NAME") or "istio-proxy"
    return f"{name}.{namespace}" if namespace else "istio-proxy"


def _objects(environment: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    objects = {}
    for key, text in environment.items():
        if key.startswith(_META_JSON):
            try:
                value = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise InputError(f"{key} is no JSON: {error}") from error
            if not isinstance(value, dict):
                raise InputError(f"{key} must be a JSON object")
            objects[key.removeprefix(_META_JSON)] = value
    return objects


def _labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Label values may not hold slashes, so ``istio-locality`` is written with dots."""
    found = dict(labels)
    where = found.get(_LOCALITY_LABEL, "")
    if where and "/" not in where:
        found[_LOCALITY_LABEL] = where.replace(".", "/")
    return found
