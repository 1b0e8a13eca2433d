"""Pods, slices and nodes of a few lines, and a mesh that lives: objects come and go, contexts follow."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import yaml

from crds import parse
from crds.key import ConfigKey
from crds.meta import Object
from istiod.config.key_sets import KeySource
from istiod.config.proxy import Peer, Proxy
from istiod.config.store import ConfigStore
from istiod.features import Features
from istiod.mesh import context
from istiod.mesh.context import MeshContext
from istiod.mesh.scope import Scope
from wire import node as wire_node


def dump(api: str, kind: str, name: str, namespace: str = "default", **more: object) -> str:
    """Any object; ``labels`` and ``annotations`` go into its metadata."""
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    for part in ("labels", "annotations", "ownerReferences", "generateName", "creationTimestamp"):
        if part in more:
            metadata[part] = more.pop(part)  # type: ignore[assignment]  # plain YAML
    return yaml.safe_dump({"apiVersion": api, "kind": kind, "metadata": metadata, **more})


def pod(name: str, ip: str, namespace: str = "default", *, account: str = "", **more: object) -> str:
    """A ready pod with a sidecar; its app label is the name up to the first hyphen."""
    labels = {"app": name.partition("-")[0], "security.istio.io/tlsMode": "istio", **more.pop("labels", {})}  # type: ignore[dict-item]  # plain YAML
    spec = {"serviceAccountName": account, "nodeName": "node-1", **more.pop("spec", {})}  # type: ignore[dict-item]  # plain YAML
    status = {
        "phase": more.pop("phase", "Running"),
        "podIP": ip,
        "conditions": [{"type": "Ready", "status": more.pop("ready", "True")}],
    }
    return dump("v1", "Pod", name, namespace, labels=labels, spec=spec, status=status, **more)


def backend(ip: str, target: str = "", **more: object) -> dict[str, object]:
    """An endpoint of a slice; ``target`` is a pod's name."""
    found: dict[str, object] = {"addresses": [ip], **more}
    if target:
        found["targetRef"] = {"kind": "Pod", "name": target, "namespace": "default"}
    return found


def slice_of(service: str, *backends: object, port: int = 8080, name: str = "", **more: object) -> str:
    """An EndpointSlice of a Service's port ``http``."""
    return dump(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        name or f"{service}-1",
        str(more.pop("namespace", "default")),
        labels=more.pop("labels", {"kubernetes.io/service-name": service}),
        addressType=more.pop("family", "IPv4"),
        endpoints=list(backends),
        ports=more.pop("ports", [{"name": "http", "port": port}]),
    )


def kube_service(name: str, namespace: str = "default", *, ports: object = None, **more: object) -> str:
    """A Service that selects by app; port 80 named http goes to 8080."""
    said = ports or [{"name": "http", "port": 80, "targetPort": 8080}]
    spec = {"clusterIP": "10.0.0.1", "selector": {"app": name}, "ports": said, **more.pop("spec", {})}  # type: ignore[dict-item]  # plain YAML
    return dump("v1", "Service", name, namespace, spec=spec, **more)


def istio(kind: str, name: str, spec: object, namespace: str = "default", **more: object) -> str:
    """An object of Istio's groups."""
    security = ("PeerAuthentication", "RequestAuthentication", "AuthorizationPolicy")
    group = "security.istio.io" if kind in security else "networking.istio.io"
    return dump(f"{group}/v1", kind, name, namespace, spec=spec, **more)


def mesh_config(text: str) -> str:
    """The ConfigMap of mesh settings."""
    return dump("v1", "ConfigMap", "istio", "istio-system", data={"mesh": text})


def parsed(text: str) -> Object:
    """The one object of a text."""
    found = parse.parse(yaml.safe_load(text))
    assert found.object is not None, found.diagnostics
    return found.object


def proxy(
    name: str = "client-1",
    namespace: str = "default",
    kind: str = "sidecar",
    ip: str = "10.1.9.9",
    **metadata: object,
) -> Proxy:
    """A connected proxy."""
    node_id = f"{kind}~{ip}~{name}.{namespace}~{namespace}.svc.cluster.local"
    return Proxy(peer=Peer(address=ip, identity=None), node=wire_node.parse(node_id, metadata))


class Mesh:
    """A store and the context that follows it."""

    def __init__(self, *texts: str, features: Features | None = None) -> None:
        self._changed: set[ConfigKey] = set()
        self._store = ConfigStore(self._changed.add, features)
        self.context: MeshContext
        self._apply(texts)
        self.context = context.build(self._store.snapshot())
        self._changed.clear()

    def _apply(self, texts: tuple[str, ...]) -> None:
        for text in texts:
            self._store.apply(parsed(text))

    def apply(self, *texts: str) -> MeshContext:
        """Objects come or change; gives the new context."""
        self._apply(texts)
        return self.follow()

    def remove(self, *texts: str) -> MeshContext:
        """Objects go; gives the new context."""
        for text in texts:
            self._store.remove(parsed(text).key)
        return self.follow()

    def put_keys(self, uri: str, keys: str | None, issuer: str = "") -> MeshContext:
        """Keys of an issuer were fetched, or are there no more; gives the new context."""
        self.store_keys(uri, keys, issuer)
        return self.follow()

    def store_keys(self, uri: str, keys: str | None, issuer: str = "") -> None:
        """As put_keys, and the context does not follow yet."""
        self._store.put_key_set(KeySource(uri=uri, issuer=issuer), keys)

    def put_gateway(self, name: str, *addresses: str) -> MeshContext:
        """A gateway's name was looked up; gives the new context."""
        self._store.put_gateway_addresses(name, addresses)
        return self.follow()

    def store_only(self, text: str, *, there: bool) -> None:
        """An object comes or goes, and the context does not follow yet."""
        item = parsed(text)
        if there:
            self._store.apply(item)
        else:
            self._store.remove(item.key)

    def follow(self) -> MeshContext:
        """The context of the store as it is now."""
        self.context = context.build(self._store.snapshot(), self.context, frozenset(self._changed))
        self._changed.clear()
        return self.context

    def keep_time(self, now: Callable[[], dt.datetime]) -> None:
        """From here on contexts know the time."""
        self._store.keep_time(now)

    def note(self, key: ConfigKey) -> MeshContext:
        """Look at an object again that did not change; gives the new context."""
        self._changed.add(key)
        return self.follow()

    def fresh(self) -> MeshContext:
        """A context built from nothing."""
        return context.build(self._store.snapshot())

    def scope(self, of: Proxy) -> Scope:
        """What a proxy gets now."""
        return context.scope(self.context, of)

    def told(self) -> list[tuple[str, str, str]]:
        """Findings as (code name, object, field)."""
        return [(d.code.name, d.key.name if d.key else "", d.field) for d in self.context.diagnostics]
