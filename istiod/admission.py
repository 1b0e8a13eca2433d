"""What the webhooks need of the mesh: the injector's settings out of the store, and judgement of one object.

The HTTPS shell and everything about pods is in webhook/; this part knows the store and the mesh.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from crds import core, shared_mesh
from crds.diagnostic import Code, Diagnostic
from crds.key import NETWORKING, ConfigKey
from crds.meta import Object
from crds.proxy_config_object import ProxyConfig
from istiod.config.store import ConfigSnapshot, ConfigStore
from istiod.envoy import patch_values
from istiod.mesh import context
from webhook import proxy_configs, validation, values
from webhook.settings import InjectionConfig, Scoped
from wire import names

_VALUES = "values"
_CONFIG = "config"
_MESH = "mesh"
_MESH_KINDS = {
    (NETWORKING, kind)
    for kind in ("VirtualService", "DestinationRule", "Gateway", "ServiceEntry", "Sidecar", "EnvoyFilter")
}


def judge(document: Mapping[str, object]) -> tuple[Diagnostic, ...]:
    """Findings about an object under admission: its own, values that are not Envoy's, and fields without effect yet.

    What is wrong between objects is not judged here: they may come in any order.
    """
    parsed = validation.named(document)
    return parsed.diagnostics if parsed.object is None else (*parsed.diagnostics, *of_mesh(parsed.object))


def of_mesh(item: Object) -> tuple[Diagnostic, ...]:
    """Findings about an object, valid by itself, that only the mesh has: values and fields without effect."""
    if (item.group, item.kind) not in _MESH_KINDS:
        return ()
    alone = ConfigSnapshot({(item.group, item.kind): {item.key: item}})
    mesh = context.build(alone)
    found = (each for each in mesh.diagnostics if each.key == item.key and each.code is Code.NOT_SUPPORTED)
    return (*found, *patch_values.findings(mesh.envoy_filters))


class Injection:
    """The injector's settings as the ConfigMaps of the root namespace have them now (feature S19).

    ``shared`` is the name of a ConfigMap with settings that lie below the mesh's own; "" is none.
    ``report`` is told what is wrong with them, once per change. Settings that cannot be read leave the last good ones.
    """

    def __init__(
        self,
        store: ConfigStore,
        report: Callable[[tuple[Diagnostic, ...]], None],
        around: values.Surroundings,
        namespace: str = names.ROOT_NAMESPACE,
        shared: str = "",
    ) -> None:
        self._store = store
        self._report = report
        self._around = around
        self._namespace = namespace
        self._shared = shared
        self._seen: tuple[object, ...] | None = None
        self._config: InjectionConfig | None = None
        self._nodes: Mapping[ConfigKey, Object] | None = None
        self._versions: frozenset[str] = frozenset()
        self._objects: Mapping[ConfigKey, Object] | None = None
        self._scoped: tuple[Scoped, ...] = ()

    def config(self) -> InjectionConfig | None:
        """The present settings; None where there is no ConfigMap of the injector, or none was ever readable."""
        injector = self._map(values.injector_name(self._around.revision))
        mesh = self._map(values.mesh_name(self._around.revision))
        shared = self._map(self._shared)
        kubelets, scoped = self._kubelets(), self._proxy_configs()
        seen = (injector, mesh, shared, kubelets, scoped)
        if seen != self._seen:
            self._seen = seen
            whole = shared_mesh.merged((mesh or {}).get(_MESH, ""), (shared or {}).get(_MESH, ""))
            self._read(injector, whole, kubelets)
            if self._config is not None:
                self._config = replace(self._config, scoped=scoped)
        return self._config

    def annotations(self, namespace: str) -> Mapping[str, str]:
        """Those of a namespace."""
        found = self._store.get(ConfigKey("", "Namespace", "", namespace))
        return found.metadata.annotations if found is not None else {}

    def _read(self, injector: Mapping[str, str] | None, mesh: str, kubelets: frozenset[str]) -> None:
        if injector is None:
            self._config = None
            self._report(())
            return
        texts = values.Texts(values=injector.get(_VALUES, ""), config=injector.get(_CONFIG, ""), mesh=mesh)
        found = values.from_values(texts, replace(self._around, kubelets=tuple(sorted(kubelets))), self._namespace)
        self._config = found.config or self._config
        self._report(found.diagnostics)

    def _map(self, name: str) -> Mapping[str, str] | None:
        found = self._store.get(ConfigKey("", "ConfigMap", self._namespace, name))
        return found.data if isinstance(found, core.ConfigMap) else None

    def _proxy_configs(self) -> tuple[Scoped, ...]:
        """The ProxyConfig objects: read when one of them changed."""
        objects = self._store.of(NETWORKING, "ProxyConfig")
        if objects is not self._objects:
            self._objects = objects
            self._scoped = proxy_configs.read(one for one in objects.values() if isinstance(one, ProxyConfig))
        return self._scoped

    def _kubelets(self) -> frozenset[str]:
        """The versions of all nodes, where they decide: asked for at each pod, gathered when a node changed."""
        if self._around.native_sidecars != values.AUTO:
            return frozenset()
        nodes = self._store.of("", "Node")
        if nodes is not self._nodes:
            self._nodes = nodes
            found = (node for node in nodes.values() if isinstance(node, core.Node))
            self._versions = frozenset(node.status.node_info.kubelet_version for node in found)
        return self._versions
