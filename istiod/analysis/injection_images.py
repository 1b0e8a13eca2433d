"""Sidecars that run another image than the injector would give their pods today."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from crds import text
from istiod.analysis import catalogue, fields, injection, kinds, membership, message
from istiod.analysis.analyzer import Analyzer
from istiod.analysis.membership import ENABLED, INJECTION, REVISION
from istiod.analysis.message import Message
from istiod.analysis.resources import Collection, Resource

_IMAGE: Final = "sidecar.istio.io/proxyImage"
_IMAGE_TYPE: Final = "sidecar.istio.io/proxyImageType"
_CONFIG: Final = "proxy.istio.io/config"


def _run(known: Collection) -> Iterator[Message]:
    images = {
        each.name: _image(injection.values(each))
        for each in known.of(kinds.CONFIG_MAP)
        if each.name.startswith(injection.INJECTOR)
    }
    for namespace in known.of(kinds.NAMESPACE) if images else ():
        revision = namespace.labels.get(REVISION)
        if revision is None and namespace.labels.get(INJECTION) != ENABLED:
            continue
        image = images.get(injection.injector(revision or ""))
        if image is None:
            continue
        pods = known.pods_by_namespace.get(namespace.name, [])
        other = [name for pod in pods for name in _others(pod, image, known)]
        if other:
            yield message.make(catalogue.PROXY_IMAGES, namespace, other)


def _others(pod: Resource, image: str, known: Collection) -> Iterator[str]:
    """The pod's name for each sidecar with another image than this one or its variant."""
    if pod.annotations.get(_IMAGE):
        return
    variant = f"{image}-{_variant(pod, known)}"
    for one in membership.containers(pod.spec):
        if fields.text(one, "name") == membership.PROXY and fields.text(one, "image") not in (image, variant):
            yield pod.name


def _image(values: object) -> str:
    image = fields.text(values, "global", "proxy", "image")
    if "/" in image:
        return image
    tag = fields.dig(values, "global", "tag")
    return f"{fields.text(values, 'global', 'hub')}/{image}:{tag if isinstance(tag, str | int) else ''}"


def _variant(pod: Resource, known: Collection) -> str:
    """Which variant of the image a pod wants: its annotations, a ProxyConfig of it, of its namespace, of the mesh."""
    if _IMAGE_TYPE in pod.annotations:
        return pod.annotations[_IMAGE_TYPE]
    try:
        own = text.load(pod.annotations.get(_CONFIG, ""))
    except text.UnreadableError:
        own = None
    if found := fields.text(own, "image", "imageType"):
        return found
    for namespace, selecting in ((pod.namespace, True), (pod.namespace, False), (known.root_namespace, False)):
        for config in known.of(kinds.PROXY_CONFIG):
            selector = fields.labels(config.spec, "selector", "matchLabels")
            fits = config.namespace == namespace and bool(selector) is selecting and _has(pod.labels, selector)
            if fits and (found := fields.text(config.spec, "image", "imageType")):
                return found
    return fields.text(known.mesh, "defaultConfig", "image", "imageType")


def _has(labels: Mapping[str, str], selector: Mapping[str, str]) -> bool:
    return selector.items() <= labels.items()


ANALYZER: Final = Analyzer(
    name="injection.ImageAnalyzer",
    description="Checks the image of auto-injection configured with the running proxies on pods",
    run=_run,
)
