"""The mesh's own pods: control plane and ingress gateway, and how pods get their sidecars."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from crds import parse, text
from crds.diagnostic import Diagnostic
from crds.key import ConfigKey
from crds.proxy_config_object import ProxyConfig
from node.credentials import CA_FOLDER, KEY_FOLDER, PUBLIC_KEY
from node.objects import Raw, key_of, labels_of
from node.options import Options
from webhook import inject, proxy_configs
from webhook.settings import InjectionConfig, Scoped
from wire import names

GATEWAY = "istio-ingressgateway"


def _object(version: str, kind: str, name: str, spec: Raw | None, labels: Mapping[str, str] | None = None) -> Raw:
    """An object of the root namespace."""
    meta: Raw = {"name": name, "namespace": names.ROOT_NAMESPACE, "labels": dict(labels or {})}
    return {"apiVersion": version, "kind": kind, "metadata": meta} | ({} if spec is None else {"spec": spec})


def _istiod_container(options: Options) -> Raw:
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
        *options.istiod,
    ]
    mounts = [{"name": n, "mountPath": f"/etc/istio/{n}"} for n in ("runtime", "config", CA_FOLDER, KEY_FOLDER)]
    return {
        "name": "discovery",
        "image": "istio/pilot",
        "args": args,
        "env": [{"name": name, "value": value} for name, value in options.variables.items()],
        "ports": [{"containerPort": names.XDS_MTLS_PORT}, {"containerPort": names.CA_PORT}],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": names.DEBUG_PORT}, "periodSeconds": 3},
        "volumeMounts": mounts,
    }


def _istiod(folder: pathlib.Path, options: Options) -> list[Raw]:
    """Deployment and Service of the control plane, with the ports of Istio's (15011 is ours: mTLS)."""
    labels = {"app": "istiod", "istio": "pilot"}
    volumes = [{"name": n, "hostPath": {"path": str(folder / n)}} for n in ("runtime", "config", CA_FOLDER, KEY_FOLDER)]
    pod: Raw = {
        "serviceAccountName": "istiod",
        "terminationGracePeriodSeconds": 5,
        "containers": [_istiod_container(options)],
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


def _gateway() -> list[Raw]:
    """Deployment and Service of the ingress gateway, as Istio's demo profile brings them."""
    labels = {"app": GATEWAY, "istio": "ingressgateway"}
    pod: Raw = {
        "serviceAccountName": GATEWAY,
        "terminationGracePeriodSeconds": 10,
        "containers": [{"name": "istio-proxy", "image": "auto", "ports": [{"containerPort": 8080}]}],
    }
    template = {
        "metadata": {
            "labels": {**labels, "sidecar.istio.io/inject": "true"},
            "annotations": {"inject.istio.io/templates": "gateway"},
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


def manifests(folder: pathlib.Path, options: Options) -> str:
    """The YAML (JSON documents) of the mesh's own pods. ``folder`` is the mesh's."""
    found = [*_istiod(folder, options), *(_gateway() if options.gateway else [])]
    return "\n---\n".join(json.dumps(each, indent=1) for each in found) + "\n"


def _mesh_config(objects: Mapping[ConfigKey, Raw]) -> Mapping[str, Any]:
    """The mesh configuration that the user gave (ConfigMap ``istio``), {} without one or where it is no mapping."""
    given = objects.get(ConfigKey("", "ConfigMap", names.ROOT_NAMESPACE, "istio")) or {}
    try:
        found = text.load(str((given.get("data") or {}).get("mesh") or ""))
    except text.UnreadableError:
        return {}  # istiod says what is wrong with it
    return found if isinstance(found, Mapping) else {}


def _proxy_configs(objects: Mapping[ConfigKey, Raw]) -> tuple[Scoped, ...]:
    """The user's ProxyConfig objects that can be read; what is wrong with one is said when it is applied."""
    given = (parse.parse(raw).object for key, raw in objects.items() if key.kind == "ProxyConfig")
    return proxy_configs.read(one for one in given if isinstance(one, ProxyConfig))


def injected(pod: Raw, objects: Mapping[ConfigKey, Raw]) -> tuple[Raw | None, tuple[Diagnostic, ...]]:
    """The pod with its sidecar where its namespace or labels ask for one; None if it must not be created."""
    space = key_of(pod).namespace
    labels = labels_of(objects.get(ConfigKey("", "Namespace", "", space)) or {})
    mesh = _mesh_config(objects)
    config = InjectionConfig(
        image="istio/proxyv2",
        proxy_config=config if isinstance(config := mesh.get("defaultConfig"), Mapping) else {},
        trust_domain=str(mesh.get("trustDomain") or names.DEFAULT_TRUST_DOMAIN),
        rewrite_probes=True,
        scoped=_proxy_configs(objects),
        root_namespace=str(mesh.get("rootNamespace") or names.ROOT_NAMESPACE),
    )
    found = inject.inject(pod, config, space, labels)
    return None if found.refused else dict(found.pod), found.diagnostics
