"""Which images of a proxy a pod may ask for: the administrator's list (hostile-input SEC38). Pure.

Istio lets every pod choose. A list in the values (``sidecarInjectorWebhook.allowedProxyImages``) ends that, by whatever
way a pod asks: the annotations, or a container of its own that injection completes. What the mesh itself is configured
with may always be used; templates are the administrator's, and are not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from crds import proxy_annotation
from crds.diagnostic import Code, Diagnostic, error
from crds.key import ConfigKey
from webhook import annotations as notes
from webhook import capture
from webhook.decision import items, part
from webhook.draft import INIT, KINDS, PROXY, Draft, variant

AUTO: Final = "auto"
"""The image that says: this is no container of mine, complete it."""
_OURS: Final = frozenset((PROXY, INIT, capture.VALIDATION))
_ANY_END: Final = "*"


def check(plan: Draft, key: ConfigKey) -> Iterator[Diagnostic]:
    """An error for each image that is asked for and not allowed; nothing where there is no list."""
    if not plan.config.allowed_images:
        return
    for field, image in _asked(plan):
        if not _allowed(plan, image):
            message = f"{image!r} is not among the images that the mesh's administrator allows (allowedProxyImages)"
            yield error(Code.BAD_VALUE, key, field, message)


def _asked(plan: Draft) -> Iterator[tuple[str, str]]:
    """What the pod asks for, and where."""
    ways = (f"{notes.SIDECAR}proxyImage", f"{notes.SIDECAR}proxyImageType", proxy_annotation.NAME)
    if said := [name for name in ways if name in plan.annotations]:
        yield f"metadata.annotations[{said[0]}]", plan.image
    spec = part(plan.pod, "spec")
    for place in ("initContainers", "containers"):
        for index, container in enumerate(items(spec.get(place))):
            image = container.get("image") or AUTO
            if container.get("name") in _OURS and image != AUTO:
                yield f"spec.{place}[{index}].image", str(image)


def _allowed(plan: Draft, image: str) -> bool:
    config = plan.config
    kind = str(part(config.proxy_config, "image").get("imageType") or "")
    own = {variant(config.image, each) for each in ("default", *KINDS, kind)}
    if image in own or image in (config.image, config.init_image):
        return True
    return any(
        image.startswith(one.removesuffix(_ANY_END)) if one.endswith(_ANY_END) else image == one
        for one in config.allowed_images
    )
