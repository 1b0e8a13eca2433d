"""The container istio-proxy, and the volumes it mounts, for sidecars and gateways (features A12 to A16, A19). Pure.

Data, not text: no value of a pod can become a field of another.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from webhook import annotations as notes
from webhook import departure
from webhook.decision import part
from webhook.draft import PROXY, Draft
from webhook.settings import Json
from wire import names

_RESOURCES = (
    ("requests", "cpu", "proxyCPU"),
    ("requests", "memory", "proxyMemory"),
    ("limits", "cpu", "proxyCPULimit"),
    ("limits", "memory", "proxyMemoryLimit"),
)
_TOKEN_SECONDS = 43200
_MOUNTS = (
    ("workload-socket", "/var/run/secrets/workload-spiffe-uds"),
    ("credential-socket", "/var/run/secrets/credential-uds"),
    ("workload-certs", "/var/run/secrets/workload-spiffe-credentials"),
    ("istiod-ca-cert", "/var/run/secrets/istio"),
    ("istio-ca-crl", "/var/run/secrets/istio/crl"),
    ("istio-data", "/var/lib/istio/data"),
    ("istio-envoy", "/etc/istio/proxy"),
    ("istio-token", "/var/run/secrets/tokens"),
    ("istio-podinfo", "/etc/istio/pod"),
)


def container(draft: Draft) -> Json:
    """The proxy's container, before the user's overrides."""
    config = draft.config
    made: Json = {
        "name": PROXY,
        "image": draft.image,
        "args": _args(draft),
        "env": env(draft),
        "ports": [{"name": "http-envoy-prom", "containerPort": names.PROMETHEUS_PORT, "protocol": "TCP"}],
        "readinessProbe": _readiness(draft),
        "resources": {} if draft.router else resources(draft),
        "securityContext": _security(draft),
        "volumeMounts": _mounts(draft),
    }
    if config.image_pull_policy:
        made["imagePullPolicy"] = config.image_pull_policy
    if not draft.status_port and not draft.router:  # of gateways Istio's template asks always
        del made["readinessProbe"]
    if hooks := _lifecycle(draft):
        made["lifecycle"] = hooks
    if draft.native:
        made["restartPolicy"] = "Always"
    if config.startup_failures and not draft.router:
        made["startupProbe"] = {
            "httpGet": {"path": "/healthz/ready", "port": names.READINESS_PORT},
            "periodSeconds": 1,
            "timeoutSeconds": 3,
            "failureThreshold": config.startup_failures,
        }
    return made


def _lifecycle(draft: Draft) -> Json:
    """Hooks: the chart's, else draining at the end of a native sidecar, else the wait that holds the app back."""
    if draft.config.lifecycle:
        return dict(draft.config.lifecycle)
    if draft.router or (draft.native and draft.departs):  # it ends after the app, which waits
        return {}
    if draft.native:
        drain = ["pilot-agent", "request", f"--debug-port={draft.status_port or draft.agent_port}", "POST", "drain"]
        return {"preStop": {"exec": {"command": drain}}}
    return {"postStart": {"exec": {"command": ["pilot-agent", "wait"]}}} if draft.holds_application else {}


def _mounts(draft: Draft) -> list[Json]:
    mounts = [(name, path) for name, path in _MOUNTS if not draft.router or name != "istio-ca-crl"]
    theirs = notes.named_objects(draft.annotations, notes.USER_MOUNT)
    made: list[Json] = [{"name": name, "mountPath": path} for name, path in mounts]
    return made + [{**mount, "name": name} for name, mount in theirs.items()]


def _args(draft: Draft) -> list[object]:
    config, prefix = draft.config, notes.SIDECAR
    return [
        "proxy",
        "router" if draft.router else "sidecar",
        "--domain",
        f"$(POD_NAMESPACE).svc.{config.cluster_domain}",
        f"--proxyLogLevel={draft.note(f'{prefix}logLevel', config.proxy_log_level)}",
        f"--proxyComponentLogLevel={draft.note(f'{prefix}componentLogLevel', config.component_log_level)}",
        f"--log_output_level={draft.note(f'{prefix}agentLogLevel', config.agent_log_level)}",
        *(["--log_as_json"] if config.log_as_json else []),
    ]


def env(draft: Draft) -> list[object]:
    """The proxy's environment (features A14). GOMEMLIMIT is for Istio's own agent, which runs with us too."""
    config = draft.config
    ports = [port for container in draft.containers for port in _ports(container)]
    values = {
        "PILOT_CERT_PROVIDER": "istiod",
        "CA_ADDR": config.ca_address,
        "PROXY_CONFIG": json.dumps(draft.proxy_config, separators=(",", ":")),
        "ISTIO_META_POD_PORTS": json.dumps(ports, separators=(",", ":")),
        "ISTIO_META_APP_CONTAINERS": ",".join(str(each.get("name")) for each in draft.containers),
        "ISTIO_META_CLUSTER_ID": config.cluster_id,
        "ISTIO_META_INTERCEPTION_MODE": draft.mode,
        "ISTIO_META_WORKLOAD_NAME": draft.labels.get(names.LABEL_WORKLOAD_NAME) or draft.owner.name,
        "ISTIO_META_OWNER": draft.owner.url(draft.namespace),
        "ISTIO_META_MESH_ID": config.mesh_id or config.trust_domain,
        "TRUST_DOMAIN": config.trust_domain,
    }
    values |= {**draft.proxy_metadata, **config.environment}
    if draft.network and "ISTIO_META_NETWORK" not in draft.proxy_metadata:
        values["ISTIO_META_NETWORK"] = draft.network
    if draft.departs:
        values |= departure.environment(part(draft.pod, "spec"))
    fields = {
        "POD_NAME": "metadata.name",
        "POD_NAMESPACE": "metadata.namespace",
        "INSTANCE_IP": "status.podIP",
        "SERVICE_ACCOUNT": "spec.serviceAccountName",
        "HOST_IP": "status.hostIP",
        "ISTIO_META_NODE_NAME": "spec.nodeName",
    }
    limits = {"ISTIO_CPU_LIMIT": "limits.cpu", "GOMEMLIMIT": "limits.memory"}
    return [
        *({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in fields.items()),
        *(
            {"name": name, "valueFrom": {"resourceFieldRef": {"resource": limit, "divisor": "1"}}}
            for name, limit in limits.items()
        ),
        *({"name": name, "value": value} for name, value in values.items()),
    ]


def _ports(container: Mapping[str, object]) -> list[object]:
    ports = container.get("ports")
    return ports if isinstance(ports, list) else []


def resources(draft: Draft) -> Json:
    """The chart's resources; where one annotation is set, only what annotations say (features A16)."""
    asked: dict[str, dict[str, str]] = {}
    for kind, resource, name in _RESOURCES:
        if value := draft.annotations.get(notes.SIDECAR + name):
            asked.setdefault(kind, {})[resource] = value
    return {kind: dict(each) for kind, each in (asked or draft.config.resources).items()}


def _readiness(draft: Draft) -> Json:
    config, prefix = draft.config, notes.READINESS
    probe: Json = {
        "httpGet": {"path": "/healthz/ready", "port": names.READINESS_PORT},
        "periodSeconds": int(draft.note(f"{prefix}periodSeconds", str(config.readiness_period))),
        "timeoutSeconds": 3,
        "failureThreshold": int(draft.note(f"{prefix}failureThreshold", str(config.readiness_failures))),
    }
    if delay := int(draft.note(f"{prefix}initialDelaySeconds", str(config.readiness_initial_delay))):
        probe["initialDelaySeconds"] = delay
    return probe


def _security(draft: Draft) -> Json:
    """The user 1337 without rights (features A15, S24).

    Root with one right each for the sockets of TPROXY, and for ports below 1024 where the pod asks for that.
    """
    config, (user, group) = draft.config, draft.ids
    if draft.router:
        made: Json = {"runAsUser": user, "runAsGroup": group}
        return made | ({"seccompProfile": dict(config.gateway_seccomp)} if config.gateway_seccomp else {})
    rights = ["NET_ADMIN"] if draft.mode == "TPROXY" else []
    rights += ["NET_BIND_SERVICE"] if draft.note(notes.BIND_LOW_PORTS, "false") == "true" else []
    capabilities: Json = {"drop": ["ALL"], **({"add": rights} if rights else {})}
    made = {
        "allowPrivilegeEscalation": config.privileged,
        "capabilities": capabilities,
        "privileged": config.privileged,
        "readOnlyRootFilesystem": True,
        "runAsGroup": group,
        "runAsNonRoot": not rights,
        "runAsUser": 0 if rights else user,
    }
    return made | ({"seccompProfile": dict(config.seccomp)} if config.seccomp else {})


def volumes(draft: Draft) -> list[Json]:
    """The volumes of the proxy (features A13), in the order of Istio's template."""
    podinfo = [{"path": part, "fieldRef": {"fieldPath": f"metadata.{part}"}} for part in ("labels", "annotations")]
    token = {"audience": draft.config.token_audience, "expirationSeconds": _TOKEN_SECONDS, "path": "istio-token"}
    made: list[Json] = [
        {"name": "workload-socket", "emptyDir": {}},
        {"name": "credential-socket", "emptyDir": {}},
        {"name": "workload-certs", "emptyDir": {}},
        {"name": "istio-envoy", "emptyDir": {"medium": "Memory"}},
        {"name": "istio-data", "emptyDir": {}},
        {"name": "istio-podinfo", "downwardAPI": {"items": podinfo}},
        {"name": "istio-token", "projected": {"sources": [{"serviceAccountToken": token}]}},
        {"name": "istiod-ca-cert", "configMap": {"name": "istio-ca-root-cert"}},
    ]
    if not draft.router:
        made.append({"name": "istio-ca-crl", "configMap": {"name": "istio-ca-crl", "optional": True}})
    theirs = notes.named_objects(draft.annotations, notes.USER_VOLUME)
    return [*made, *({**source, "name": name} for name, source in theirs.items())]
