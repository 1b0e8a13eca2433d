"""The mesh's own pods: control plane and ingress gateway, and how pods get their sidecars."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping

from crds.key import ConfigKey
from node.credentials import CA_FOLDER, KEY_FOLDER, PUBLIC_KEY
from node.objects import Raw
from wire import names

GATEWAY = "istio-ingressgateway"
_IMAGE = "istio/proxyv2"


def _object(version: str, kind: str, name: str, spec: Raw | None, labels: Mapping[str, str] | None = None) -> Raw:
    """An object of the root namespace."""
    meta: Raw = {"name": name, "namespace": names.ROOT_NAMESPACE, "labels": dict(labels or {})}
    return {"apiVersion": version, "kind": kind, "metadata": meta} | ({} if spec is None else {"spec": spec})


def _istiod_container(arguments: tuple[str, ...]) -> Raw:
    """The control plane's container; its folders are those of the mesh on the host."""
    everywhere = "0.0.0.0"  # noqa: S104 (of its pod)
    args = [
        "discovery",
        "--configDir=/etc/istio/runtime",
        "--configDir=/etc/istio/config",
        f"--grpcAddr=127.0.0.1:{names.XDS_PLAINTEXT_PORT}",
        f"--mtlsAddr={everywhere}:{names.XDS_MTLS_PORT}",
        f"--secureGRPCAddr={everywhere}:{names.CA_PORT}",
        f"--monitoringAddr={everywhere}:{names.DEBUG_PORT}",
        "--caDir=/etc/istio/ca",
        f"--tokenKey=/etc/istio/tokens/{PUBLIC_KEY}",
        *arguments,
    ]
    mounts = [{"name": n, "mountPath": f"/etc/istio/{n}"} for n in ("runtime", "config", CA_FOLDER, KEY_FOLDER)]
    return {
        "name": "discovery",
        "image": "istio/pilot",
        "args": args,
        "ports": [{"containerPort": names.XDS_MTLS_PORT}, {"containerPort": names.CA_PORT}],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": names.DEBUG_PORT}, "periodSeconds": 3},
        "volumeMounts": mounts,
    }


def _istiod(folder: pathlib.Path, arguments: tuple[str, ...]) -> list[Raw]:
    """Deployment and Service of the control plane, with the ports of Istio's (15011 is ours: mTLS)."""
    labels = {"app": "istiod", "istio": "pilot"}
    volumes = [{"name": n, "hostPath": {"path": str(folder / n)}} for n in ("runtime", "config", CA_FOLDER, KEY_FOLDER)]
    pod: Raw = {
        "serviceAccountName": "istiod",
        "terminationGracePeriodSeconds": 5,
        "containers": [_istiod_container(arguments)],
        "volumes": volumes,
    }
    deployment: Raw = {
        "replicas": 1,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    ports = [
        {"name": "grpc-xds-mtls", "port": names.XDS_MTLS_PORT, "protocol": "TCP"},
        {"name": "https-dns", "port": names.CA_PORT, "protocol": "TCP"},
        {"name": "http-monitoring", "port": names.DEBUG_PORT, "protocol": "TCP"},
    ]
    return [
        _object("v1", "ServiceAccount", "istiod", None),
        _object("v1", "Service", "istiod", {"selector": labels, "ports": ports}, labels),
        _object("apps/v1", "Deployment", "istiod", deployment, labels),
    ]


def _field(name: str, path: str) -> Raw:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def _gateway_container() -> Raw:
    """The gateway's container, as Istio's gateway injection template makes it."""
    env = [
        {"name": "CA_ADDR", "value": f"istiod.{names.ROOT_NAMESPACE}.svc:{names.CA_PORT}"},
        _field("POD_NAME", "metadata.name"),
        _field("POD_NAMESPACE", "metadata.namespace"),
        _field("INSTANCE_IP", "status.podIP"),
        _field("HOST_IP", "status.hostIP"),
        _field("SERVICE_ACCOUNT", "spec.serviceAccountName"),
        _field("ISTIO_META_NODE_NAME", "spec.nodeName"),
        {"name": "PROXY_CONFIG", "value": "{}\n"},
        {"name": "ISTIO_META_CLUSTER_ID", "value": names.CLUSTER_ID},
        {"name": "ISTIO_META_WORKLOAD_NAME", "value": GATEWAY},
        {"name": "TRUST_DOMAIN", "value": names.DEFAULT_TRUST_DOMAIN},
    ]
    places = {
        "workload-socket": "/var/run/secrets/workload-spiffe-uds",
        "credential-socket": "/var/run/secrets/credential-uds",
        "workload-certs": "/var/run/secrets/workload-spiffe-credentials",
        "istiod-ca-cert": "/var/run/secrets/istio",
        "istio-data": "/var/lib/istio/data",
        "istio-envoy": "/etc/istio/proxy",
        "istio-token": "/var/run/secrets/tokens",
        "istio-podinfo": "/etc/istio/pod",
    }
    return {
        "name": "istio-proxy",
        "image": _IMAGE,
        "args": ["proxy", "router", "--domain", "$(POD_NAMESPACE).svc.cluster.local", "--proxyLogLevel=warning"],
        "env": env,
        "ports": [{"containerPort": 8080}, {"containerPort": 8443}, {"containerPort": names.PROMETHEUS_PORT}],
        "readinessProbe": {"httpGet": {"path": "/healthz/ready", "port": names.READINESS_PORT}, "periodSeconds": 5},
        "securityContext": {"runAsUser": names.PROXY_UID, "runAsGroup": names.PROXY_UID},
        "volumeMounts": [{"name": name, "mountPath": path} for name, path in places.items()],
    }


def _gateway_volumes() -> list[Raw]:
    """The gateway's volumes, as Istio's template has them."""
    items = [{"path": part, "fieldRef": {"fieldPath": f"metadata.{part}"}} for part in ("labels", "annotations")]
    token = {"audience": names.TOKEN_AUDIENCE, "expirationSeconds": 43200, "path": "istio-token"}
    empty = ("workload-socket", "credential-socket", "workload-certs", "istio-envoy", "istio-data")
    return [
        *[{"name": name, "emptyDir": {}} for name in empty],
        {"name": "istio-podinfo", "downwardAPI": {"items": items}},
        {"name": "istio-token", "projected": {"sources": [{"serviceAccountToken": token}]}},
        {"name": "istiod-ca-cert", "configMap": {"name": "istio-ca-root-cert"}},
    ]


def _gateway() -> list[Raw]:
    """Deployment and Service of the ingress gateway, as Istio's demo profile brings them."""
    labels = {"app": GATEWAY, "istio": "ingressgateway"}
    pod: Raw = {
        "serviceAccountName": GATEWAY,
        "terminationGracePeriodSeconds": 10,
        "securityContext": {"fsGroup": names.PROXY_UID},
        "containers": [_gateway_container()],
        "volumes": _gateway_volumes(),
    }
    template = {
        "metadata": {
            "labels": {
                **labels,
                names.LABEL_CANONICAL_NAME: GATEWAY,
                names.LABEL_CANONICAL_REVISION: "latest",
                "sidecar.istio.io/inject": "false",
            }
        },
        "spec": pod,
    }
    ports = [
        {"name": "status-port", "port": names.READINESS_PORT, "targetPort": names.READINESS_PORT},
        {"name": "http2", "port": 80, "targetPort": 8080},
        {"name": "https", "port": 443, "targetPort": 8443},
    ]
    deployment = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    return [
        _object("v1", "ServiceAccount", GATEWAY, None),
        _object("v1", "Service", GATEWAY, {"type": "LoadBalancer", "selector": labels, "ports": ports}, labels),
        _object("apps/v1", "Deployment", GATEWAY, deployment, labels),
    ]


def manifests(folder: pathlib.Path, arguments: tuple[str, ...], *, gateway: bool) -> str:
    """The YAML (JSON documents) of the mesh's own pods. ``folder`` is the mesh's, ``arguments`` are istiod's."""
    found = [*_istiod(folder, arguments), *(_gateway() if gateway else [])]
    return "\n---\n".join(json.dumps(each, indent=1) for each in found) + "\n"


def injected(pod: Raw, objects: Mapping[ConfigKey, Raw]) -> Raw:
    """The pod with its sidecar, where its namespace's labels ask for one."""
    del objects
    return pod
