"""Which connected proxies are an older Envoy, and what they therefore do without (older.py). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from crds import diagnostic
from crds.diagnostic import Code, Diagnostic
from istiod.config.origin import Origin
from istiod.config.proxy import Proxy
from istiod.config.resource import ResourceSet
from istiod.envoy import compiler, since
from istiod.envoy.older import Loss
from istiod.mesh import envoy_release
from istiod.mesh.envoy_release import Release

_TOLD: Final = 20
"""Things that a proxy lacks, at most, on a page."""


def of(target: ResourceSet) -> tuple[str, ...]:
    """What is not in a target, by name; the same for all proxies of one."""
    found = {_words(loss) for each in compiler.lost(target) for loss in each.losses}
    return tuple(sorted(found)[:_TOLD])


def findings(targets: Iterable[tuple[Proxy, ResourceSet]]) -> Iterator[Diagnostic]:
    """What the owners of objects, and whoever runs the mesh, are told of what connected proxies do without."""
    lacking: dict[tuple[Origin | None, Loss], list[Proxy]] = {}
    untried: list[Proxy] = []
    known: dict[int, tuple[tuple[Origin | None, Loss], ...]] = {}  # many proxies share a target
    for proxy, target in targets:
        if envoy_release.of(proxy.node) is Release.CURRENT:
            continue
        if envoy_release.is_untried(proxy.node):
            untried.append(proxy)
        if id(target) not in known:
            known[id(target)] = tuple(dict.fromkeys(_losses(target)))
        for each in known[id(target)]:
            lacking.setdefault(each, []).append(proxy)
    for (origin, loss), proxies in lacking.items():
        yield _about(_lack(origin, loss, proxies), proxies)
    if untried:
        message = f"Envoy is older than {envoy_release.OLDEST}, the oldest one that is tested: it gets what that takes"
        yield _about(diagnostic.warning(Code.UNTRIED_ENVOY, None, "", message), untried)


def version(proxy: Proxy) -> str:
    """Its Envoy's version as people write it; "" where it says none."""
    return ".".join(map(str, proxy.node.envoy))


def _losses(target: ResourceSet) -> Iterator[tuple[Origin | None, Loss]]:
    for each in compiler.lost(target):
        for loss in each.losses:
            yield (None if loss.what in since.OURS else each.origin), loss


def _lack(origin: Origin | None, loss: Loss, proxies: list[Proxy]) -> Diagnostic:
    # Not the versions that they name: a pod may name another each time, and a finding that differs is a new one
    releases = sorted({envoy_release.of(proxy.node) for proxy in proxies})
    message = f"Envoy {' and '.join(map(str, releases))} does without: {_words(loss)}"
    key, field = (origin.key, origin.field) if origin is not None else (None, "")
    make = diagnostic.error if loss.closed else diagnostic.warning
    return make(Code.OLDER_ENVOY, key, field, message)


def _words(loss: Loss) -> str:
    return f"{loss.what} (part of a policy, so nothing passes there)" if loss.closed else loss.what


def _about(found: Diagnostic, proxies: Iterable[Proxy]) -> Diagnostic:
    return replace(found, proxies=tuple(sorted(f"{each.node.name}.{each.node.namespace}" for each in proxies)))
