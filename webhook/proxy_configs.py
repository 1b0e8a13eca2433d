"""ProxyConfig objects under the annotation of a pod and over the mesh's ``defaultConfig`` (features row K5). Pure.

The root namespace speaks for all pods, a namespace for its own, a selector for some of them; the narrower wins, and of
several of one width the oldest (Istio: ProxyConfigs.EffectiveProxyConfig). Variables add up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from crds.proxy_config_object import ProxyConfig
from webhook.decision import part
from webhook.settings import InjectionConfig, Scoped
from wire import variables


def read(items: Iterable[ProxyConfig]) -> tuple[Scoped, ...]:
    """The objects as the injector has them, oldest first."""
    return tuple(_scoped(item) for item in sorted(items, key=_age))


def effective(config: InjectionConfig, namespace: str, labels: Mapping[str, str]) -> Mapping[str, object]:
    """What a pod starts with, unless its annotation says otherwise."""
    found: Mapping[str, object] = config.proxy_config
    for width in (_everybody, _namespace, _selected):
        for one in reversed([one for one in config.scoped if width(one, config, namespace, labels)]):
            found = merged(found, one.settings)
    return found


def merged(below: Mapping[str, object], above: Mapping[str, object]) -> dict[str, object]:
    """One ProxyConfig over another. Variables add up; every other field above replaces the one below."""
    found = {**below, **above}
    if metadata := {**part(below, "proxyMetadata"), **part(above, "proxyMetadata")}:
        found["proxyMetadata"] = metadata
    return found


def _everybody(one: Scoped, config: InjectionConfig, _namespace: str, _labels: Mapping[str, str]) -> bool:
    return one.namespace == config.root_namespace and not one.selector


def _namespace(one: Scoped, config: InjectionConfig, namespace: str, _labels: Mapping[str, str]) -> bool:
    return one.namespace == namespace != config.root_namespace and not one.selector


def _selected(one: Scoped, _config: InjectionConfig, namespace: str, labels: Mapping[str, str]) -> bool:
    return one.namespace == namespace and bool(one.selector) and one.selector.items() <= labels.items()


def _age(item: ProxyConfig) -> tuple[float, str, str]:
    created = item.metadata.creation_timestamp
    return (created.timestamp() if created else 0.0, item.metadata.name, item.metadata.namespace)


def _scoped(item: ProxyConfig) -> Scoped:
    spec = item.spec
    settings: dict[str, object] = {}
    if spec.concurrency is not None and spec.concurrency >= 0:
        settings["concurrency"] = spec.concurrency
    if given := {k: v for k, v in spec.environment_variables.items() if variables.is_name(k)}:
        settings["proxyMetadata"] = given
    if spec.image is not None and spec.image.image_type:
        settings["image"] = {"imageType": spec.image.image_type}
    selector = spec.selector.match_labels if spec.selector is not None else {}
    return Scoped(namespace=item.metadata.namespace, selector=selector, settings=settings)
